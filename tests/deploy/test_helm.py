"""The chart: what it refuses, and what each of its templates means.

What it has in common with the Kustomize manifests is held in ``test_kubernetes``.
"""

import copy
import json
import re
import runpy
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossd.backends.cupy import PINNED_BYTES
from lossd.serving import addresses
from lossd.serving.config import unknown_variables
from lossd.v1 import evaluation_service_pb2, loss_service_pb2
from tests.deploy.test_kubernetes import (
    CHART,
    PROFILES,
    VERSIONS,
    containers,
    helm,
    helm_program,
    of_kind,
)
from tests.deploy.test_kubernetes import template as rendered
from tests.deploy.test_prometheus import FOLDER as PROMETHEUS
from tests.deploy.test_prometheus import KNOWN, named
from tests.end_to_end.test_prometheus import tool

yaml = pytest.importorskip("yaml", reason="needs the extra 'dev'")

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = PROFILES["chart with everything"]
KEDA = PROFILES["chart with KEDA"]
TEMPLATES = sorted(path.name for path in (CHART / "templates").rglob("*.yaml"))


def test_the_schema_is_what_its_builder_writes() -> None:
    written = runpy.run_path(str(CHART.parent / "schema.py"))["text"]()

    assert written == (CHART / "values.schema.json").read_text()


def test_the_schema_describes_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert schema["properties"].keys() - {"global"} == values.keys()
    for name, value in values.items():
        members = schema["properties"][name].get("properties")
        if members and name != "settings":
            assert members.keys() == value.keys(), name


def test_versions_are_those_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"


@pytest.mark.parametrize("profile", PROFILES)
def test_helm_lints_it_strictly(profile: str) -> None:
    done = helm("lint", "--strict", values=PROFILES[profile])

    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_packaged_with_what_its_links_point_to(tmp_path: Path) -> None:
    subprocess.run(
        [helm_program(), "package", str(CHART), "--destination", str(tmp_path)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (package,) = tmp_path.glob("lossd-*.tgz")
    listing = subprocess.run(
        ["tar", "-xzOf", str(package), "lossd/files/alerts.yml"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert listing.stdout == (PROMETHEUS / "alerts.yml").read_text()


# What each template may not be given, and what is said of it.
REFUSED = [
    ("deployment.yaml", {"replicas": 0}, "replicas"),
    ("deployment.yaml", {"memory": "4G"}, "memory"),
    ("deployment.yaml", {"memory": "512Mi"}, "memory must be at least 896Mi, got 512Mi"),
    (
        "deployment.yaml",
        {"memory": "1Gi", "gpu": {"enabled": True}},
        "memory must be at least 1152Mi, got 1Gi",
    ),
    ("deployment.yaml", {"memory": "2Gi", "cores": 32}, "memory must be at least 2096Mi, got 2Gi"),
    (
        "deployment.yaml",
        {"settings": {"max_inflight_bytes": 1 << 30}},
        "max_message_bytes 3 times, 4230Mi with its own, got 4Gi",
    ),
    ("deployment.yaml", {"cores": 0.5}, "cores"),
    ("deployment.yaml", {"settings": {"max_call": 3}}, "max_call"),
    ("deployment.yaml", {"settings": {"max_calls": 0}}, "max_calls"),
    ("deployment.yaml", {"settings": {"max_calls": "many"}}, "max_calls"),
    ("deployment.yaml", {"settings": {"log_level": "loud"}}, "log_level"),
    ("deployment.yaml", {"settings": {"address": "0.0.0.0:1"}}, "address"),
    ("deployment.yaml", {"settings": {"tls_cert": "/tls/tls.crt"}}, "missing property 'tls_key'"),
    ("deployment.yaml", {"settings": {"jwt_audience": "a", "jwks": ""}}, "settings/jwks"),
    ("deployment.yaml", {"settings": {"access": "/a", "token_file": "/b"}}, "settings/token_file"),
    ("deployment.yaml", {"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ("deployment.yaml", {"gpu": {"enabled": True, "count": 0}}, "count"),
    ("deployment.yaml", {"gpu": {"enabled": True, "claim": "no name"}}, "claim"),
    ("deployment.yaml", {"env": [{"name": "LOSSD_MAX_CALLS", "value": "1"}]}, "env"),
    ("deployment.yaml", {"replica": 3}, "replica"),
    ("deployment.yaml", {"volumes": [{"emptyDir": {}}]}, "volumes"),
    ("deployment.yaml", {"volumes": [{"name": "tmp", "emptyDir": {}}]}, "volumes"),
    ("deployment.yaml", {"volumeMounts": [{"name": "tls"}]}, "volumeMounts"),
    ("deployment.yaml", {"volumeMounts": [{"name": "a", "mountPath": "tls"}]}, "volumeMounts"),
    ("service.yaml", {"service": {"type": "LoadBalancer"}}, "service"),
    ("serviceaccount.yaml", {"serviceAccount": {"create": "no"}}, "create"),
    ("poddisruptionbudget.yaml", {"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
    (
        "horizontalpodautoscaler.yaml",
        {"autoscaling": {"enabled": True}, "keda": {"enabled": True}},
        "must not both be enabled",
    ),
    (
        "horizontalpodautoscaler.yaml",
        {"autoscaling": {"targetCPUUtilizationPercentage": 0}},
        "targetCPU",
    ),
    (
        "horizontalpodautoscaler.yaml",
        {"autoscaling": {"enabled": True, "minReplicas": 9}},
        "autoscaling.maxReplicas must be at least its minReplicas of 9, got 8",
    ),
    (
        "scaledobject.yaml",
        {"keda": {"enabled": True, "maxReplicas": 1}},
        "keda.maxReplicas must be at least its minReplicas of 2, got 1",
    ),
    ("scaledobject.yaml", {"keda": {"prometheusAddress": "prometheus"}}, "prometheusAddress"),
    ("scaledobject.yaml", {"keda": {"queueSeconds": 0}}, "queueSeconds"),
    ("networkpolicy.yaml", {"networkPolicy": {"trainers": "all"}}, "trainers"),
    (
        "networkpolicy.yaml",
        {"networkPolicy": {"enabled": True}, "settings": {"tracing": True}},
        "networkPolicy.egress must let traces out where settings.tracing is on, got none",
    ),
    ("podmonitor.yaml", {"podMonitor": {"interval": "often"}}, "interval"),
    ("prometheusrule.yaml", {"rules": {"labels": {"a": 1}}}, "labels"),
    (
        "prometheusrule.yaml",
        {"rules": {"enabled": True}, "podMonitor": {"enabled": True, "interval": "3m"}},
        "podMonitor.interval must be at most 2m with rules, which look back over 5, got 3m",
    ),
    (
        "prometheusrule.yaml",
        {"rules": {"enabled": True}, "podMonitor": {"enabled": True, "interval": "180000ms"}},
        "podMonitor.interval must be at most 2m with rules, which look back over 5, got 180000ms",
    ),
    ("dashboard.yaml", {"dashboard": {"labels": {"a": True}}}, "labels"),
    ("grpcroute.yaml", {"grpcRoute": {"enabled": True}}, "parentRefs must name a Gateway"),
    ("ready.yaml", {"image": {"repository": ""}}, "repository"),
]


@pytest.mark.parametrize(("name", "values", "said"), REFUSED)
def test_a_wrong_value_is_refused_by_its_name(name: str, values: Any, said: str) -> None:
    done = helm("template", "lossd", values=values)

    assert done.returncode != 0, name
    assert said in done.stderr


def test_every_template_refuses_something() -> None:
    assert {name for name, _, _ in REFUSED} == set(TEMPLATES)


OFF = {
    "ServiceAccount": {"serviceAccount": {"create": False}},
    "PodDisruptionBudget": {"podDisruptionBudget": {"enabled": False}},
    "HorizontalPodAutoscaler": {},
    "ScaledObject": {},
    "NetworkPolicy": {},
    "PodMonitor": {},
    "PrometheusRule": {},
    "ConfigMap": {},
    "GRPCRoute": {},
}


@pytest.mark.parametrize("kind", OFF)
def test_what_is_off_is_not_there(kind: str) -> None:
    there = {item["kind"] for item in (*rendered(EVERYTHING), *rendered(KEDA))}

    assert kind in there
    assert kind not in {item["kind"] for item in rendered(OFF[kind])}


def test_without_an_account_of_its_own_it_has_that_of_the_namespace() -> None:
    pod = of_kind(rendered(OFF["ServiceAccount"]), "Deployment")["spec"]["template"]["spec"]

    assert pod["serviceAccountName"] == "default"


# Where each kind says which pods it is about.
SELECTORS: dict[str, Callable[[Any], Any]] = {
    "Service": lambda spec: spec["selector"],
    "Deployment": lambda spec: spec["selector"]["matchLabels"],
    "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
    "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
    "PodMonitor": lambda spec: spec["selector"]["matchLabels"],
}


def astray(objects: Any) -> list[str]:
    """The kinds that select other pods than those of the Deployment, or refer to another name."""
    deployment = of_kind(objects, "Deployment")
    name = deployment["metadata"]["name"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {
        p["name"] for c in containers(deployment["spec"]["template"]["spec"]) for p in c["ports"]
    }
    found = []
    for item in objects:
        kind, spec = item["kind"], item.get("spec", {})
        right = True
        if kind in SELECTORS:
            right = bool(SELECTORS[kind](spec)) and SELECTORS[kind](spec).items() <= labels.items()
        if kind in ("HorizontalPodAutoscaler", "ScaledObject"):
            right = spec["scaleTargetRef"]["name"] == name
        if kind == "GRPCRoute":
            (rule,) = spec["rules"]
            right = rule["backendRefs"] == [{"name": name, "port": 50051}]
        if kind == "PodMonitor":
            right &= {end["port"] for end in spec["podMetricsEndpoints"]} <= ports
        if kind == "NetworkPolicy":
            right &= {p["port"] for rule in spec["ingress"] for p in rule["ports"]} == ports
        if not right:
            found.append(kind)
    return found


@pytest.mark.parametrize("values", [EVERYTHING, KEDA], ids=["everything", "KEDA"])
def test_everything_is_about_the_pods_of_the_deployment(values: Any) -> None:
    assert astray(rendered(values)) == []


def wrong(kind: str, *path: Any, value: Any) -> Any:
    """Renders the chart with one thing changed."""
    objects = copy.deepcopy(rendered(KEDA if kind == "ScaledObject" else EVERYTHING))
    place = of_kind(objects, kind)["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return objects


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Service", ("selector",), {"app.kubernetes.io/name": "other"}),
        ("PodDisruptionBudget", ("selector", "matchLabels"), {"app": "lossd"}),
        ("NetworkPolicy", ("podSelector", "matchLabels"), {}),
        ("NetworkPolicy", ("ingress", 0, "ports", 0, "port"), "metrics"),
        ("PodMonitor", ("selector", "matchLabels"), {"app": "lossd"}),
        ("PodMonitor", ("podMetricsEndpoints", 0, "port"), "metrics"),
        ("HorizontalPodAutoscaler", ("scaleTargetRef", "name"), "other"),
        ("ScaledObject", ("scaleTargetRef", "name"), "other"),
        ("GRPCRoute", ("rules", 0, "backendRefs", 0, "name"), "other"),
    ],
)
def test_what_goes_astray_is_noticed(kind: str, path: Any, value: Any) -> None:
    assert astray(wrong(kind, *path, value=value)) == [kind]


@pytest.mark.parametrize("monitor", [{"interval": "9m"}, {"enabled": True, "interval": "2m"}])
def test_rules_go_with_scrapes_that_are_near_enough_or_not_the_charts(monitor: Any) -> None:
    objects = rendered({"rules": {"enabled": True}, "podMonitor": monitor})

    assert of_kind(objects, "PrometheusRule")["spec"]["groups"]


def test_rules_are_those_that_are_tested_with_links_to_the_runbook() -> None:
    values = {**EVERYTHING, "podMonitor": {"enabled": False}}
    groups = of_kind(rendered(values), "PrometheusRule")["spec"]["groups"]
    files = [yaml.safe_load((PROMETHEUS / f"{n}.yml").read_text()) for n in ("recording", "alerts")]
    expected = [group for file in files for group in file["groups"]]
    for rule in expected[-1]["rules"]:
        anchor = rule["annotations"].pop("runbook")
        rule["annotations"]["runbook_url"] = f"https://example.com/lossd/{anchor}"

    assert groups == expected


@pytest.mark.parametrize("release", ["lossd", "vision"])
def test_rules_beside_a_monitor_are_about_its_pods_alone(release: str, tmp_path: Path) -> None:
    """Of two releases with rules each would tell of both: here of the pods of the first."""
    values = {"podMonitor": {"enabled": True}, "rules": {"enabled": True}}
    objects = list(yaml.safe_load_all(helm("template", release, values=values).stdout))
    job = f"training/{of_kind(objects, 'PodMonitor')['metadata']['name']}"
    rules = of_kind(objects, "PrometheusRule")["spec"]
    for asked in (rule["expr"] for group in rules["groups"] for rule in group["rules"]):
        assert named(asked) <= KNOWN
        series = re.findall(r"\b(?:lossd[_:]|grpc_server_|process_|up\b)", asked)
        assert asked.count(f'{{job="{job}"') == len(series) > 0

    told = (PROMETHEUS / "tests.yml").read_text().replace('job="lossd"', 'job="training/lossd"')
    short = ("LossdDown", "LossdErrorsFast", "LossdVersionsDiffer")
    tests = [test for test in yaml.safe_load(told)["tests"] if test["name"] in short]
    for check in (check for test in tests for check in test["promql_expr_test"]):
        check["exp_samples"] = check["exp_samples"] if release == "lossd" else []
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": "30s", "tests": tests}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(whole))
    done = subprocess.run(
        [tool("promtool"), "test", "rules", "tests.yml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_that_of_grafana() -> None:
    data = of_kind(rendered(EVERYTHING), "ConfigMap")["data"]

    board = json.loads((ROOT / "deploy/grafana/lossd.json").read_text())
    assert json.loads(data["lossd.json"]) == board


def test_keda_asks_for_metrics_that_there_are() -> None:
    (trigger,) = of_kind(rendered(KEDA), "ScaledObject")["spec"]["triggers"]
    query = trigger["metadata"]["query"]

    assert named(query) - {"vector"} <= KNOWN
    assert 'namespace="training"' in query
    assert float(trigger["metadata"]["threshold"]) > 0


def test_keda_counts_no_pods_of_another_release() -> None:
    (trigger,) = of_kind(rendered(KEDA), "ScaledObject")["spec"]["triggers"]
    asked = re.findall(r'pod=~"([^"]*)"', trigger["metadata"]["query"])

    assert len(asked) == 2
    for pattern in asked:
        assert re.fullmatch(pattern, "lossd-7d9c8b6f5-x2x9z")
        # As Kubernetes cuts it of a name of 50 characters: the two endings run into one another.
        assert re.fullmatch(pattern, "lossd-7d9c8b6x2x9z")
        assert not re.fullmatch(pattern, "lossd-eu-7d9c8b6f5-x2x9z")
        assert not re.fullmatch(pattern, "other-lossd-7d9c8b6f5-x2x9z")


@pytest.mark.parametrize(
    ("interval", "window"),
    [("15s", 60), ("500ms", 60), ("30000ms", 120), ("30s", 120), ("2m", 480)],
)
def test_keda_looks_back_over_four_scrapes(interval: str, window: int) -> None:
    values = {**KEDA, "podMonitor": {"interval": interval}}
    (trigger,) = of_kind(rendered(values), "ScaledObject")["spec"]["triggers"]

    assert re.findall(r"\[([^]]*)s\]\)", trigger["metadata"]["query"]) == [str(window)] * 2


def test_the_route_leads_to_services_that_there_are() -> None:
    (rule,) = of_kind(rendered(EVERYTHING), "GRPCRoute")["spec"]["rules"]
    found = {match["method"]["service"] for match in rule["matches"]}
    own = {
        service.full_name
        for contract in (loss_service_pb2, evaluation_service_pb2)
        for service in contract.DESCRIPTOR.services_by_name.values()
    }

    assert found - own == {"grpc.reflection.v1alpha.ServerReflection"}
    assert own <= found


def test_a_network_policy_lets_nobody_in_by_default_but_whom_it_names() -> None:
    spec = of_kind(rendered({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]

    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert spec["egress"] == []
    assert all(rule["from"] for rule in spec["ingress"])  # an empty one would be everybody

    closed = rendered({"networkPolicy": {"enabled": True, "trainers": [], "monitoring": []}})
    assert not of_kind(closed, "NetworkPolicy")["spec"]["ingress"]


def test_the_pod_that_tests_it_asks_the_service() -> None:
    objects = rendered({})
    pod, service = of_kind(objects, "Pod"), of_kind(objects, "Service")
    (container,) = pod["spec"]["containers"]
    command, flag, address = container["args"]

    assert (command, flag) == ("healthcheck", "--address")
    assert address == f"{service['metadata']['name']}:50051"
    addresses.parse(address)  # or it raises
    labels = pod["metadata"]["labels"]
    assert not service["spec"]["selector"].items() <= labels.items()  # else it would get calls
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_traces_are_let_out_where_a_policy_says_so() -> None:
    spec = of_kind(rendered(EVERYTHING), "NetworkPolicy")["spec"]

    assert spec["egress"] == EVERYTHING["networkPolicy"]["egress"]


TLS = PROFILES["chart with TLS"]


def test_with_tls_everybody_asks_by_it() -> None:
    objects = rendered(TLS)
    (container,) = of_kind(objects, "Pod")["spec"]["containers"]
    (end,) = of_kind(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    service = of_kind(objects, "Service")
    given = {item["name"]: item["value"] for item in container["env"]}

    assert (end["scheme"], end["tlsConfig"]) == ("https", {"insecureSkipVerify": True})
    assert service["spec"]["ports"][0]["appProtocol"] == "https"
    # By these `lossd healthcheck` asks the page, whatever certificates the server wants of callers;
    # with an address it would ask there.
    assert container["args"] == ["healthcheck"]
    assert given.pop("LOSSD_METRICS_HOST") == service["metadata"]["name"]
    assert int(given.pop("LOSSD_METRICS_PORT")) == service["spec"]["ports"][1]["port"]
    assert given.keys() == {"LOSSD_TLS_CERT", "LOSSD_METRICS_TLS_CERT"}
    assert unknown_variables(given) == []


NOTED: dict[str, list[dict[str, str]]] = {
    "There is no TLS": [{}, {"token_file": "/a"}, {"jwks": "/a"}],
    "and tokens": [{"token_file": "/a"}, {"access": "/a"}, {"jwks": "/a"}],
    "There is no authentication": [{}, {"tls_cert": "/a", "tls_key": "/b"}],
    "networkPolicy.enabled=true": [{}],
    "lossd.training:50051": [{}, {"tls_cert": "/a", "tls_key": "/b", "tls_client_ca": "/c"}],
}


@pytest.mark.parametrize("said", NOTED)
def test_notes_say_what_there_is(said: str) -> None:
    tls = {"tls_cert": "/a", "tls_key": "/b", "tls_client_ca": "/c"}
    others = [tls] if said != "lossd.training:50051" else []
    for settings in NOTED[said]:
        assert said in notes(settings)
    for settings in others:
        assert said not in notes(settings)


def notes(settings: dict[str, str]) -> str:
    """The text that is shown once the chart is installed."""
    done = helm("install", "lossd", "--dry-run=client", values={"settings": settings})
    assert done.returncode == 0, done.stderr
    return done.stdout.split("NOTES:\n")[1]


def test_two_releases_of_a_namespace_do_not_meet() -> None:
    names = {item["metadata"]["name"] for item in rendered({})}
    other = helm("template", "vision", values={})
    others = {item["metadata"]["name"] for item in yaml.safe_load_all(other.stdout)}

    assert not names & others


@pytest.mark.parametrize("name", ["123", "on"])
def test_a_name_that_yaml_takes_for_something_else_stays_one(name: str) -> None:
    values = {
        "serviceAccount": {"name": name},
        "priorityClassName": name,
        "gpu": {"enabled": True, "claim": name},
        "memory": "16Gi",
    }
    done = helm("template", name, values=values)
    objects = tuple(yaml.safe_load_all(done.stdout))

    assert of_kind(objects, "ServiceAccount")["metadata"]["name"] == name
    pod = of_kind(objects, "Deployment")["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == (name, name)
    assert pod["resourceClaims"][0]["resourceClaimName"] == name
    assert {item["metadata"]["labels"]["app.kubernetes.io/instance"] for item in objects} == {name}


# Helm takes 53 characters.
@pytest.mark.parametrize("release", ["vision", "a" * 53, "a" * 48 + "lossd", "lossd-" + "a" * 47])
def test_names_are_short_and_have_the_word_that_alerts_look_for(release: str) -> None:
    done = helm("template", release, values={"podMonitor": {"enabled": True}})
    name = of_kind(list(yaml.safe_load_all(done.stdout)), "PodMonitor")["metadata"]["name"]

    assert "lossd" in name  # Prometheus' operator makes the job of it: up{job=~".*lossd.*"}
    assert len(name) <= 50


def test_memory_in_flight_follows_the_memory() -> None:
    def inflight(memory: str) -> int:
        (container,) = containers(
            of_kind(rendered({"memory": memory}), "Deployment")["spec"]["template"]["spec"]
        )
        values = {item["name"]: item.get("value") for item in container["env"]}
        return int(values["LOSSD_MAX_INFLIGHT_BYTES"] or 0)

    own = (512 + 2 * 40) << 20
    assert inflight("4Gi") == ((4 << 30) - own) // 5
    assert inflight("4096Mi") == inflight("4Gi")
    assert inflight("64Gi") > 1 << 32


@pytest.mark.parametrize(
    ("gpu", "count"),
    [
        ({"enabled": False, "count": 3}, 0),
        ({"enabled": True}, 1),
        ({"enabled": True, "count": 3}, 3),
        ({"enabled": True, "count": 3, "claim": "shared"}, 1),
    ],
)
def test_what_is_pinned_for_gpus_is_not_left_for_calls(gpu: dict[str, Any], count: int) -> None:
    values = {"gpu": gpu, "memory": "8Gi"}
    (container,) = containers(of_kind(rendered(values), "Deployment")["spec"]["template"]["spec"])
    given = {item["name"]: item.get("value") for item in container["env"]}

    own = (512 + 2 * 40) << 20
    assert int(given["LOSSD_MAX_INFLIGHT_BYTES"]) == ((8 << 30) - own - count * PINNED_BYTES) // 5
    assert PINNED_BYTES == 256 << 20  # as docs/operating.md says


# The least that the server takes of a message is 128 bytes.
@pytest.mark.parametrize(("inflight", "message"), [(100_000_000, 100_000_000), (64, 128)])
def test_a_message_follows_what_may_be_in_flight(inflight: int, message: int) -> None:
    objects = rendered({"settings": {"max_inflight_bytes": inflight}})
    (container,) = containers(of_kind(objects, "Deployment")["spec"]["template"]["spec"])
    given = {item["name"]: item.get("value") for item in container["env"]}

    assert int(given["LOSSD_MAX_MESSAGE_BYTES"]) == message


def test_what_may_be_in_flight_can_be_said_where_it_fits() -> None:
    said = {"max_inflight_bytes": 1 << 30, "max_message_bytes": 256 << 20}
    (container,) = containers(
        of_kind(rendered({"settings": said}), "Deployment")["spec"]["template"]["spec"]
    )
    values = {item["name"]: item.get("value") for item in container["env"]}

    assert {name: int(values[f"LOSSD_{name.upper()}"]) for name in said} == said
