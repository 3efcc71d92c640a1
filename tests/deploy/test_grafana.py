"""The dashboard: as its builder writes it, and with data in every panel."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from deploy.grafana.board import text
from lossd.client import TLS, InvalidRequestError, LossClient
from lossd.serving import families
from lossd.v1 import Accuracy, CrossEntropy, Huber
from tests.certificates import Authority
from tests.deploy.test_prometheus import BY_SERIES, KNOWN, RECORDED, labels, matched, named
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.test_prometheus import ask, prometheus, tool

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/grafana"
BOARD = json.loads((FOLDER / "lossd.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES = [each for each in BOARD["templating"]["list"] if each["type"] == "query"]
TARGETS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def concrete(expression: str, seconds: int) -> str:
    """A query as Grafana sends it, with everything chosen."""
    chosen = expression.replace("$__rate_interval", f"{seconds}s").replace("$__range", "1h")
    return re.sub(r'"\$\w+"', '".*"', chosen)


def test_the_board_is_what_its_builder_writes() -> None:
    assert text() == (FOLDER / "lossd.json").read_text()


@pytest.mark.parametrize(("title", "expression"), TARGETS, ids=lambda text: text[:40])
def test_a_panel_asks_for_metrics_that_every_server_has(title: str, expression: str) -> None:
    del title
    recorded = {rule["record"] for rule in RECORDED}
    asked = named(concrete(expression, 60)) - {"vector"}

    assert asked
    assert asked <= KNOWN - recorded  # the board works without the rules
    for name, selected in matched(expression).items():
        if name in BY_SERIES:
            assert selected <= labels(BY_SERIES[name]) | {"job", "namespace", "instance"}


def test_every_family_of_the_server_is_on_the_board() -> None:
    shown = {BY_SERIES[name].name for _, e in TARGETS for name in named(e) if name in BY_SERIES}
    beside = {"grpc_server_started", "grpc_server_msg_received", "grpc_server_msg_sent"}

    assert {family.name for family in BY_SERIES.values()} - shown <= beside | {
        "lossd_evaluated_examples"
    }


def test_panels_are_told_apart_and_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    for panel in PANELS:
        assert panel["description"].endswith(".")
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


def test_variables_of_the_queries_are_those_of_the_board() -> None:
    used = set(re.findall(r"\$(\w+)|\$\{(\w+)\}", json.dumps(BOARD)))
    names = {first or second for first, second in used} - {"__rate_interval", "__range", "__all"}

    assert names == {variable["name"] for variable in BOARD["templating"]["list"]}


def trainer(server: Process, tls: TLS, done: threading.Event) -> None:
    """Sends what makes every kind of series, until it is told to stop."""
    random = np.random.default_rng(3)
    large = random.standard_normal((1200, 500))
    with LossClient(server.address, tls=tls) as client:
        while not done.wait(0.02):
            client.compute(Huber(), predictions=random.standard_normal(9), targets=np.zeros(9))
            client.compute(CrossEntropy(), predictions=large, targets=np.zeros(1200, np.int64))
            client.evaluate(Accuracy(), predictions=[1, 0], targets=[1, 1])
            with pytest.raises(InvalidRequestError):
                client.compute(Huber(delta=-1), predictions=[0.0], targets=[0.0])


@contextlib.contextmanager
def gpus() -> Iterator[str]:
    """The page of a server with two GPUs, as far as these are in it."""
    registry = CollectorRegistry()
    for family in (families.GPU_MEMORY_USED, families.GPU_MEMORY, families.GPU_UTILIZATION):
        gauge = Gauge(family.name, family.description, family.labels, registry=registry)
        for device in ("NVIDIA A", "NVIDIA B"):
            gauge.labels(device).set(0.5)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus, with a server that is used, and what one with two GPUs tells of them."""
    tool("prometheus")
    shared = tmp_path_factory.mktemp("shm", numbered=True)
    folder, authority = tmp_path_factory.mktemp("tls"), Authority()
    certificate, key = authority.issue("server").write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.certificate)
    secured = ("--tls-cert", str(certificate), "--tls-key", str(key))
    computing = ("--backend", "numpy", "--threads", "1", "--shm-dir", str(shared))
    done = threading.Event()
    with serve(*computing, *secured) as server:
        tls = TLS(ca=folder / "ca.pem")
        thread = threading.Thread(target=trainer, args=(server, tls, done))
        thread.start()
        try:
            folder = tmp_path_factory.mktemp("prometheus")
            with gpus() as other:
                targets = f'{server.metrics_url.split("/")[2]}", "{other}'
                with prometheus(folder, targets) as found:
                    yield found
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(("title", "expression"), TARGETS, ids=lambda text: text[:40])
def test_a_panel_has_data(address: str, title: str, expression: str) -> None:
    deadline = time.monotonic() + 60
    found: dict[Any, float] = {}
    while not found:
        assert time.monotonic() < deadline, f"{title} must have data, got none"
        found = ask(address, concrete(expression, 5))
        if not found:
            time.sleep(0.2)

    assert any(value == value for value in found.values()), title  # noqa: PLR0124 - not all NaN
    assert len(found) == 1 or all(found), (
        f"{title} must have no series without labels beside others"
    )


GPUS = [
    (panel["title"], target["expr"], target["legendFormat"])
    for panel in PANELS
    for target in panel["targets"]
    if "lossd_gpu_" in target["expr"]
]


@pytest.mark.parametrize(("title", "expression", "legend"), GPUS)
def test_each_gpu_has_a_series_and_a_name(
    address: str, title: str, expression: str, legend: str
) -> None:
    deadline = time.monotonic() + 60  # it may be asked before the first scrape
    while len(found := ask(address, concrete(expression, 5))) != 2:
        assert time.monotonic() < deadline, (title, found)
        time.sleep(0.2)

    assert {"{{instance}}", "{{device}}"} <= set(legend.split())


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable["name"])
def test_a_variable_has_values(address: str, variable: Any) -> None:
    selected, label = re.fullmatch(
        r"label_values\((.*), (\w+)\)", variable["query"]["query"]
    ).groups()  # type: ignore[union-attr]
    if label in ("namespace", "training_job"):  # of Kubernetes, and of operators who name jobs
        selected, label = "lossd_build_info", "lossd"

    deadline = time.monotonic() + 60  # it may be asked before the first scrape
    while not ask(address, f"count by ({label}) ({concrete(selected, 5)})"):
        assert time.monotonic() < deadline, variable["name"]
        time.sleep(0.2)
