"""A real Prometheus with the rules as they are, but for their patience, and real servers."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lossd.client import TLS, LossClient
from lossd.v1 import Huber
from tests.certificates import Authority
from tests.deploy.test_prometheus import FOLDER
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.test_prometheus import ask, prometheus, tool

yaml = pytest.importorskip("yaml", reason="needs the extra 'dev'")


def impatient(folder: Path) -> str:
    """The rules, which wait for nothing and are looked at all the time, as a part of a config."""
    names = ("recording.yml", "alerts.yml")
    for name in names:
        groups = yaml.safe_load((FOLDER / name).read_text())
        for group in groups["groups"]:
            group["interval"] = "200ms"
            for rule in group["rules"]:
                rule.pop("for", None)
        (folder / name).write_text(yaml.safe_dump(groups))
    return yaml.safe_dump({"rule_files": list(names)})  # type: ignore[no-any-return]


def firing(address: str) -> set[tuple[str, ...]]:
    return set(ask(address, 'sum by (alertname) (ALERTS{alertstate="firing"})'))


def eventually(address: str, *expected: str) -> None:
    deadline = time.monotonic() + 20
    while (found := firing(address)) != {(name,) for name in expected}:
        assert time.monotonic() < deadline, f"{expected} must fire, got {found}"
        time.sleep(0.1)


def looked_at(address: str) -> None:
    """Waits until every rule has been looked at since a scrape, without a fault."""
    deadline = time.monotonic() + 20
    while not ask(address, "up == 1 and on () lossd:calls:rate5m > 0"):
        assert time.monotonic() < deadline, "rules must have been looked at"
        time.sleep(0.1)
    assert set(ask(address, "prometheus_rule_evaluation_failures_total").values()) <= {0.0}


def tls_server(folder: Path, days: float) -> tuple[Any, TLS]:
    authority = Authority()
    certificate, key = authority.issue("server", days=days).write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.certificate)
    flags = ("--backend", "numpy", "--tls-cert", str(certificate), "--tls-key", str(key))
    return serve(*flags), TLS(ca=folder / "ca.pem")


def used(server: Process, tls: TLS) -> None:
    with LossClient(server.address, tls=tls) as client:
        for _ in range(20):
            client.compute(Huber(), predictions=[0.0], targets=[1.0])
            time.sleep(0.02)  # so that two scrapes see a difference


def test_no_alert_fires_for_a_healthy_server_and_one_does_when_it_is_gone(tmp_path: Path) -> None:
    tool("prometheus")
    starting, tls = tls_server(tmp_path, days=30)
    with (
        starting as server,
        prometheus(tmp_path, server.metrics_url.split("/")[2], impatient(tmp_path)) as address,
    ):
        while not ask(address, "lossd_ready == 1"):
            time.sleep(0.1)
        used(server, tls)
        looked_at(address)
        assert firing(address) == set()

        server.end(signal.SIGKILL)
        eventually(address, "LossdDown")


def test_an_alert_fires_for_a_certificate_and_for_what_it_is_replaced_with(tmp_path: Path) -> None:
    tool("prometheus")
    starting, tls = tls_server(tmp_path, days=3)
    with (
        starting as server,
        prometheus(tmp_path, server.metrics_url.split("/")[2], impatient(tmp_path)) as address,
    ):
        used(server, tls)
        eventually(address, "LossdCertificateExpiring")

        (tmp_path / "server.pem").write_text("half of one")
        eventually(address, "LossdCertificateExpiring", "LossdReloadFailed")
