"""The manifests, as far as they can be checked without a cluster: schemas, and what they miss."""

import functools
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lossd.serving.config import Config, settings, unknown_variables
from lossd.serving.process import http

yaml = pytest.importorskip("yaml", reason="needs the extra 'dev'")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs the extra 'dev'")

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DIRECTORIES = ("base", "gpu", "sidecar", "shared-gpu")
# Values of the chart that are rendered beside them, and held to the same.
CHART = ROOT / "deploy/helm/lossd"
PROFILES: dict[str, dict[str, Any]] = {
    "chart": {},
    "chart with a GPU": {"gpu": {"enabled": True}, "cores": 4, "memory": "16Gi"},
    "chart with everything": {
        "memory": "1200Mi",
        "autoscaling": {"enabled": True},
        "networkPolicy": {"enabled": True, "egress": [{"ports": [{"port": 4317}]}]},
        "podMonitor": {"enabled": True, "labels": {"release": "monitoring"}},
        "rules": {"enabled": True, "runbookBase": "https://example.com/lossd"},
        "dashboard": {"enabled": True},
        "grpcRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["a.b"]},
        "serviceAccount": {"annotations": {"a": "b"}},
        "podAnnotations": {"c": "d"},
        "podLabels": {"e": "f"},
        "nodeSelector": {"g": "h"},
        "tolerations": [{"key": "i", "operator": "Exists"}],
        "priorityClassName": "high",
        "image": {"pullSecrets": [{"name": "j"}]},
        "settings": {
            "drain_seconds": 0.5,
            "max_calls": 1,
            "jobs": "vision,speech",
            "tracing": True,
        },
        "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4317"}],
    },
    "chart with TLS": {
        "settings": {
            **{
                f"{place}tls_{file}": f"/tls/tls.{file}"
                for place in ("", "metrics_")
                for file in ("cert", "key")
            },
            "token_file": "/tokens/tokens",
        },
        "podMonitor": {"enabled": True},
        "volumes": [
            {"name": "tls", "secret": {"secretName": "lossd-tls"}},
            {"name": "tokens", "secret": {"secretName": "lossd-tokens"}},
        ],
        "volumeMounts": [
            {"name": "tls", "mountPath": "/tls", "readOnly": True},
            {"name": "tokens", "mountPath": "/tokens", "readOnly": True},
        ],
    },
    "chart with KEDA": {"keda": {"enabled": True}},
    "chart with a shared GPU": {"gpu": {"enabled": True, "claim": "training-gpu"}, "replicas": 2},
}
# The oldest with native sidecars, one between, and the newest that the schemas know.
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())
# Of others than Kubernetes, whose schemas are not at hand.
CUSTOM = {"PodMonitor", "PrometheusRule", "ScaledObject", "GRPCRoute"}
# Claims of devices are of a newer Kubernetes; what has one is held to the schemas from then on.
WITH_CLAIMS = (1, 34)
UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}
MIB = 1 << 20


@functools.cache
def render(directory: str) -> tuple[dict[str, Any], ...]:
    """The objects of a directory or of the chart, as kubectl or helm would send them."""
    if directory in PROFILES:
        return template(PROFILES[directory])
    kubectl = shutil.which("kubectl", path=Path(sys.executable).parent) or shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [kubectl, "kustomize", str(ROOT / "deploy/kubernetes" / directory)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return tuple(yaml.safe_load_all(done.stdout))


def helm_program() -> str:
    """Where helm is."""
    found = shutil.which("helm", path=Path(sys.executable).parent) or shutil.which("helm")
    if found is None:
        pytest.skip("helm is not installed: .ci/get-helm .venv/bin")
    return found


def helm(*arguments: str, values: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """Runs helm on the chart with these values."""
    return subprocess.run(
        [helm_program(), *arguments, str(CHART), "--namespace", "training", "--values", "-"],
        input=yaml.safe_dump(values),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def template(values: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The objects of the chart with these values."""
    done = helm("template", "lossd", values=values)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(objects: Any, kind: str) -> Any:
    (found,) = [item for item in objects if item["kind"] == kind]
    return found


@pytest.fixture(params=[*DIRECTORIES, *PROFILES])
def objects(request: pytest.FixtureRequest) -> Any:
    return render(request.param)


@pytest.fixture
def workload(objects: Any) -> Any:
    """The Deployment or the Job."""
    (found,) = [item for item in objects if "template" in item.get("spec", {})]
    return found


@pytest.fixture
def pod(workload: Any) -> Any:
    return workload["spec"]["template"]["spec"]


@pytest.fixture
def server(pod: Any) -> Any:
    """The container that lossd serves in."""
    (found,) = [container for container in containers(pod) if container["name"] == "lossd"]
    return found


@pytest.fixture
def config(server: Any) -> Config:
    """The settings that the container gives; making them checks their bounds."""
    given = variables(server)
    assert unknown_variables(given) == []
    return Config(**{s.name: s.type(given[s.variable]) for s in settings() if s.variable in given})


def containers(pod: Any) -> list[Any]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def variables(container: Any) -> dict[str, str]:
    """The variables of a container; what is no text comes from the cores that it asks for."""
    cores = container["resources"]["requests"]["cpu"]
    return {item["name"]: item.get("value", cores) for item in container["env"]}


def ports(container: Any) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container.get("ports", [])}


def size(text: str) -> int:
    number, unit = text[:-2], text[-2:]
    return int(number) * UNITS[unit]


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_keep_their_schemas(objects: Any, version: str) -> None:
    if "resourceClaims" in str(objects) and tuple(map(int, version.split("."))) < WITH_CLAIMS:
        pytest.skip(f"Kubernetes {version} has no claims of devices")
    for item in objects:
        if item["kind"] not in CUSTOM:
            kubernetes_validate.validate(item, version, strict=True)


def test_probes_ask_pages_that_the_server_has_on_the_port_that_it_serves(
    server: Any, config: Config
) -> None:
    assert ports(server)["http"] == config.metrics_port
    assert config.metrics_host == "0.0.0.0"  # noqa: S104 - the kubelet is outside of the pod
    for name, path in [
        ("startupProbe", "/readyz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/healthz"),
    ]:
        scheme = {"scheme": "HTTPS"} if config.metrics_tls_cert else {}
        assert server[name]["httpGet"] == {"path": path, "port": "http", **scheme}
        assert status_of(path) == "200 OK"
    assert status_of("/nothing") == "404 Not Found"


def status_of(path: str) -> str:
    said: list[str] = []
    pages = http.application(lambda *_: [], lambda: "ready")

    def start(status: str, *_: Any) -> Any:
        said.append(status)

    list(pages({"PATH_INFO": path}, start))
    return said[0]


def test_every_variable_is_a_setting_and_threads_are_the_cores_asked_for(
    server: Any, config: Config
) -> None:
    (threads,) = [item for item in server["env"] if item["name"] == "LOSSD_THREADS"]

    assert threads["valueFrom"]["resourceFieldRef"] == {"resource": "requests.cpu", "divisor": "1"}
    assert config.threads == int(server["resources"]["requests"]["cpu"])


def test_links_to_services_do_not_pose_as_settings(pod: Any) -> None:
    assert pod["enableServiceLinks"] is False


def test_pods_keep_the_restricted_standard_and_a_read_only_root(pod: Any) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all(not {"hostPath"} & volume.keys() for volume in pod["volumes"])
    for container in containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_user_is_that_of_the_image(pod: Any) -> None:
    (user,) = re.findall(r"^USER (\d+):(\d+)$", dockerfile(), re.MULTILINE)
    context = pod["securityContext"]

    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user


def dockerfile() -> str:
    return (ROOT / "deploy/docker/Dockerfile").read_text()


def test_what_the_server_writes_to_is_mounted_in_memory_and_bounded(
    pod: Any, server: Any, config: Config
) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in server["volumeMounts"]}
    written = {"/tmp"}  # noqa: S108 - of a container
    if config.address.startswith("unix:"):
        written.add(str(Path(config.address.removeprefix("unix:")).parent))
    if config.shm_dir:
        written.add(config.shm_dir)

    read = {mount["mountPath"] for mount in server["volumeMounts"] if mount.get("readOnly")}
    files = {s.name: str(getattr(config, s.name)) for s in settings() if is_file(s.name)}
    assert read == {str(Path(file).parent) for file in files.values() if file}
    assert mounts.keys() - read == written
    for path in written:
        volume = mounts[path]
        assert volume["emptyDir"]["medium"] == "Memory"
        limit = config.max_shm_bytes if path == config.shm_dir else 64 * MIB
        assert size(volume["emptyDir"]["sizeLimit"]) <= limit


def is_file(setting: str) -> bool:
    """Whether a setting names a file or a directory that the server reads."""
    named = ("_cert", "_key", "_ca", "_file", "access", "jwks", "networks")
    return setting.endswith(named)


def test_images_are_pinned_to_this_version(pod: Any) -> None:
    for container in containers(pod):
        assert re.fullmatch(rf"lossd:{re.escape(VERSION)}(-gpu)?", container["image"])


def test_there_is_time_to_drain(pod: Any, config: Config) -> None:
    drain = config.drain_delay_seconds + config.drain_seconds

    assert pod["terminationGracePeriodSeconds"] >= drain + 10


def test_the_requests_in_flight_fit_the_memory(server: Any, config: Config) -> None:
    resources = server["resources"]
    limit = size(resources["limits"]["memory"])

    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert config.max_message_bytes <= config.max_inflight_bytes
    # One rule for all servers: that of docs/operations.md, which `lossd doctor` has too.
    assert limit >= needed(config, gpus(server))
    assert limit <= 2 * needed(config, gpus(server))


def gpus(server: Any) -> int:
    """How many GPUs a container has; a claim is of one."""
    resources = server["resources"]
    return int(resources["limits"].get("nvidia.com/gpu", len(resources.get("claims", []))))


def needed(config: Config, gpus: int) -> int:
    """The memory that a server may take."""
    own = (512 + config.threads * 40 + gpus * 256) * MIB
    return own + config.max_inflight_bytes * 3 // 2 + config.max_message_bytes * 3


def test_every_service_account_is_there_and_has_no_token(objects: Any, pod: Any) -> None:
    account = of_kind(objects, "ServiceAccount")

    assert account["metadata"]["name"] == pod["serviceAccountName"]
    assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("directory", ["base", "gpu", *PROFILES])
def test_the_service_shows_every_pod_and_names_ports_that_they_have(directory: str) -> None:
    objects = render(directory)
    service, template = (
        of_kind(objects, "Service"),
        of_kind(objects, "Deployment")["spec"]["template"],
    )
    (container,) = template["spec"]["containers"]

    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    for port in service["spec"]["ports"]:
        assert ports(container)[port["targetPort"]] == port["port"]
    address = variables(container)["LOSSD_ADDRESS"]
    assert address == f"0.0.0.0:{ports(container)['grpc']}"


@pytest.mark.parametrize("directory", ["base", "gpu", *PROFILES])
def test_disruptions_and_updates_leave_a_pod_standing(directory: str) -> None:
    objects = render(directory)
    deployment, budget = of_kind(objects, "Deployment"), of_kind(objects, "PodDisruptionBudget")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    update = deployment["spec"]["strategy"]["rollingUpdate"]

    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    least = min(replicas(objects))
    assert least > budget["spec"]["maxUnavailable"]
    assert least > update["maxUnavailable"]


def replicas(objects: Any) -> tuple[int, int]:
    """How few and how many pods there may be."""
    spec = of_kind(objects, "Deployment")["spec"]
    for item in objects:
        if item["kind"] == "HorizontalPodAutoscaler":
            assert "replicas" not in spec  # else every update would undo what it did
            return item["spec"]["minReplicas"], item["spec"]["maxReplicas"]
        if item["kind"] == "ScaledObject":
            assert "replicas" not in spec
            return item["spec"]["minReplicaCount"], item["spec"]["maxReplicaCount"]
    return spec["replicas"], spec["replicas"]


def test_only_the_overlay_asks_for_a_gpu_and_runs_the_image_that_has_one() -> None:
    found = {}
    for directory in ("base", "gpu"):
        (container,) = of_kind(render(directory), "Deployment")["spec"]["template"]["spec"][
            "containers"
        ]
        found[directory] = container
    gpu, cpu = found["gpu"], found["base"]

    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert variables(gpu)["LOSSD_BACKEND"] == "cupy"
    assert gpu["image"].endswith("-gpu")
    assert "nvidia.com/gpu" not in cpu["resources"]["limits"]
    assert variables(cpu)["LOSSD_BACKEND"] == "numpy"
    assert gpu["startupProbe"]["failureThreshold"] > cpu["startupProbe"]["failureThreshold"]
    assert ports(gpu) == ports(cpu)


def test_the_sidecar_is_ready_before_the_trainer_and_shares_its_socket() -> None:
    pod = of_kind(render("sidecar"), "Job")["spec"]["template"]["spec"]
    (sidecar,), (trainer,) = pod["initContainers"], pod["containers"]
    address = variables(sidecar)["LOSSD_ADDRESS"]
    directory = str(Path(address.removeprefix("unix:")).parent)

    assert sidecar["restartPolicy"] == "Always"
    assert "startupProbe" in sidecar
    assert address.startswith("unix:/")
    assert {"name": "TRAINER_LOSSD", "value": address} in trainer["env"]
    mounted = [
        [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == directory]
        for container in (sidecar, trainer)
    ]
    assert mounted == [["socket"], ["socket"]]


def test_the_sidecar_and_its_trainer_share_a_directory_in_memory() -> None:
    pod = of_kind(render("sidecar"), "Job")["spec"]["template"]["spec"]
    (lossd,) = pod["initContainers"]
    (trainer,) = pod["containers"]
    given = variables(lossd)
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]

    for container in (lossd, trainer):
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["shm"] == given["LOSSD_SHM_DIR"]
        assert "runAsUser" not in container["securityContext"]  # both are the pod's
    assert volume["emptyDir"]["medium"] == "Memory"
    assert size(volume["emptyDir"]["sizeLimit"]) == int(given["LOSSD_MAX_SHM_BYTES"])
    assert size(trainer["resources"]["limits"]["memory"]) > int(given["LOSSD_MAX_SHM_BYTES"])


def test_the_sidecar_and_its_trainer_share_one_gpu_and_see_each_other() -> None:
    objects = render("shared-gpu")
    pod = of_kind(objects, "Job")["spec"]["template"]["spec"]
    (claim,) = pod["resourceClaims"]
    template = of_kind(objects, "ResourceClaimTemplate")
    (request,) = template["spec"]["spec"]["devices"]["requests"]

    assert pod["shareProcessNamespace"] is True
    assert claim["resourceClaimTemplateName"] == template["metadata"]["name"]
    assert request["exactly"].get("count", 1) == 1
    for container in containers(pod):
        assert container["resources"]["claims"] == [{"name": claim["name"]}]
        assert "nvidia.com/gpu" not in container["resources"]["limits"]  # which would be another
    (lossd,) = pod["initContainers"]
    assert variables(lossd)["LOSSD_BACKEND"] == "cupy"
    assert lossd["image"].endswith("-gpu")


def test_the_chart_takes_a_claim_in_place_of_a_gpu_of_its_own() -> None:
    pod = of_kind(render("chart with a shared GPU"), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["resourceClaims"] == [{"name": "gpu", "resourceClaimName": "training-gpu"}]
    assert container["resources"]["claims"] == [{"name": "gpu"}]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert variables(container)["LOSSD_BACKEND"] == "cupy"
