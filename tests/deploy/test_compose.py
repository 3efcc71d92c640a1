"""Docker Compose: what it names is there, and Prometheus takes its file."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lossd.cli import command
from tests.deploy.test_docker import STAGES
from tests.end_to_end.test_prometheus import tool

yaml = pytest.importorskip("yaml", reason="needs the extra 'dev'")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/compose"
COMPOSE: Any = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def mounts() -> dict[str, Path]:
    """Returns what is mounted, by service and place."""
    return {
        f"{name}:{place}": (FOLDER / source).resolve()
        for name, service in SERVICES.items()
        for source, place in (volume.split(":")[:2] for volume in service.get("volumes", []))
    }


def test_what_is_mounted_is_there() -> None:
    assert all(path.exists() for path in mounts().values())
    assert all(v.endswith(":ro") for s in SERVICES.values() for v in s.get("volumes", []))


def test_ports_are_open_to_this_machine_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_image_is_built_from_a_target_and_has_this_version() -> None:
    build = SERVICES["lossd"]["build"]

    assert (FOLDER / build["context"] / build["dockerfile"]).exists()
    assert build["target"] in STAGES
    assert {SERVICES[name]["image"] for name in ("lossd", "trainer")} == {f"lossd:{VERSION}"}


def test_only_a_server_is_asked_how_it_is() -> None:
    assert 'CMD ["lossd", "healthcheck"]' in (ROOT / "deploy/docker/Dockerfile").read_text()
    for service in SERVICES.values():
        if service["image"] == f"lossd:{VERSION}" and "serve" not in service.get("command", []):
            assert service["healthcheck"] == {"disable": True}


def test_its_command_is_one_that_the_server_takes() -> None:
    _, *arguments = SERVICES["lossd"]["command"]

    assert SERVICES["lossd"]["command"][0] == "serve"
    done = CliRunner().invoke(command, ["config", "--check", *arguments])
    assert done.output == "every setting is in bounds\n"


def test_services_name_each_other() -> None:
    assert SERVICES["trainer"]["environment"]["TRAINER_LOSSD"] == "dns:///lossd:50051"
    source = yaml.safe_load((FOLDER / "grafana/datasources.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert {"prometheus", "lossd"} <= SERVICES.keys()


def test_prometheus_takes_its_file_and_finds_the_rules(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yml").read_text()
    inside = "/etc/prometheus/rules"
    assert mounts()[f"prometheus:{inside}"] == ROOT / "deploy/prometheus"
    (tmp_path / "prometheus.yml").write_text(text.replace(inside, str(ROOT / "deploy/prometheus")))
    done = subprocess.run(
        [tool("promtool"), "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"SUCCESS: \d+ rules found", done.stdout)) == 2


def test_a_server_that_is_gone_stays_a_target() -> None:
    """One that is looked up is none without its container, so that ``LossdDown`` never fired."""
    (scrape,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]

    assert scrape.keys() == {"job_name", "static_configs"}
    assert scrape["static_configs"] == [{"targets": ["lossd:9464"]}]
    assert "lossd" in SERVICES


def test_grafana_is_given_the_dashboard() -> None:
    provider = yaml.safe_load((FOLDER / "grafana/dashboards.yml").read_text())["providers"][0]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert str(Path(home).parent) == provider["options"]["path"]
    assert mounts()[f"grafana:{home}"] == ROOT / "deploy/grafana/lossd.json"
