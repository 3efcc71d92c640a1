"""``lossd top``: a view of a server, which shows what Prometheus computes from the same scrapes."""

import io
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from lossd.cli import command
from lossd.cli.scrapes import Between, Scrape
from lossd.cli.top_text import view_text
from lossd.cli.top_view import GpuRow, LossRow, Rejection, Timed, View, view_of
from lossd.client import InvalidRequestError, LossClient
from lossd.v1 import BinaryClassifierOptimization, CrossEntropy, Huber, RocAuc
from tests.certificates import Authority
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.test_prometheus import ask, prometheus, tool


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with serve("--backend", "numpy", "--threads", "1", "--jobs", "run7") as process:
        yield process


def lossd(*arguments: str, columns: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(command, ["top", *arguments])


def load(address: str, times: int) -> None:
    """Batches of two losses, a metric, and calls that are refused."""
    logits, labels = np.zeros((50, 4), np.float32), np.arange(50) % 4
    with LossClient(address) as client:
        for _ in range(times):
            client.compute(CrossEntropy(), predictions=logits, targets=labels)
            client.compute(Huber(), predictions=[2.0, 0.5], targets=[0.0, 0.0])
            client.evaluate(RocAuc(), predictions=[0.0, 1.0], targets=[0, 1])
            with pytest.raises(InvalidRequestError):
                client.compute(Huber(delta=-1), predictions=[0.0], targets=[0.0])


def raw(address: str, seconds: int, now: float) -> list[Scrape]:
    """The first and the last of the scrapes of Prometheus within some seconds, or none.

    What it says of scrapes themselves is left out: it is there of one that failed, too.
    """
    query = urllib.parse.urlencode({"query": f'{{job="lossd"}}[{seconds}s]', "time": now})
    with urllib.request.urlopen(f"{address}/api/v1/query?{query}", timeout=10) as reply:  # noqa: S310 - ours
        told = json.load(reply)["data"]["result"]
    found = [one for one in told if not re.match("up$|scrape_", one["metric"]["__name__"])]
    ends: list[dict[Any, float]] = [{}, {}]
    times = [float(t) for one in found if len(one["values"]) > 1 for t, _ in one["values"]]
    for one in found:
        labels = {n: v for n, v in one["metric"].items() if n not in {"job", "instance"}}
        key = (labels.pop("__name__"), frozenset(labels.items()))
        for end, (_, value) in zip(ends, (one["values"][0], one["values"][-1]), strict=True):
            end[key] = float(value)
    if len(set(times)) < 3:  # too few for what Prometheus makes of a window
        return []
    return [Scrape(at, end) for at, end in zip((min(times), max(times)), ends, strict=True)]


WINDOW = "[2s]"
QUANTILE = "histogram_quantile(0.99, sum by ({0}, le) (rate({1}_bucket" + WINDOW + ")))"
EXPRESSIONS = {
    "calls": f"sum(rate(grpc_server_started_total{WINDOW}))",
    "losses": f"sum by (loss) (rate(lossd_requests_total{WINDOW})) > 0",
    "examples": f"sum by (loss) (rate(lossd_examples_total{WINDOW})) > 0",
    "failed": f'sum by (loss) (rate(lossd_requests_total{{status!="OK"}}{WINDOW})) > 0',
    "p99": QUANTILE.format("loss", "lossd_request_duration_seconds"),
    "phases": QUANTILE.format("phase", "lossd_phase_duration_seconds"),
    "rejected": f"sum by (reason) (rate(lossd_rejected_total{WINDOW})) > 0",
    "metrics": f"sum by (metric) (rate(lossd_evaluations_total{WINDOW})) > 0",
    "bytes": f"sum by (transport) (rate(lossd_request_bytes_sum{WINDOW})) > 0",
    "cores": f"sum(rate(process_cpu_seconds_total{WINDOW}))",
}


def answers(address: str, expression: str, now: float) -> dict[str, float]:
    """Returns what Prometheus answers, by the value of the label."""
    query = urllib.parse.urlencode({"query": expression, "time": now})
    with urllib.request.urlopen(f"{address}/api/v1/query?{query}", timeout=10) as reply:  # noqa: S310 - ours
        found = json.load(reply)["data"]["result"]
    numbers = {"".join(one["metric"].values()): float(one["value"][1]) for one in found}
    return {label: number for label, number in numbers.items() if not math.isnan(number)}


def shown(view: View) -> dict[str, dict[str, Any]]:
    """Returns what a view has for each of the expressions."""
    return {
        "calls": {"": view.calls_per_second},
        "losses": {one.loss: one.batches_per_second for one in view.losses},
        "examples": {one.loss: one.examples_per_second for one in view.losses},
        "failed": {one.loss: one.failed_per_second for one in view.losses},
        "p99": {one.loss: one.p99_seconds for one in view.losses},
        "phases": {one.name: one.p99_seconds for one in view.phases},
        "rejected": {one.reason: one.per_second for one in view.rejections},
        "metrics": {one.name: one.per_second for one in view.metrics},
        "bytes": {one.transport: one.request_bytes_per_second for one in view.moved},
        "cores": {"": view.processor_cores},
    }


def test_it_shows_what_prometheus_computes_from_the_same_scrapes(
    server: Process, tmp_path: Path
) -> None:
    tool("prometheus")
    load(server.address, 1)  # so that every series is there from the first scrape
    with prometheus(tmp_path, server.metrics_url.split("/")[2]) as address:
        deadline = time.monotonic() + 20
        while not ask(address, "lossd_ready == 1"):
            assert time.monotonic() < deadline, "Prometheus must have scraped"
            time.sleep(0.1)
        began = time.time()
        scrapes: list[Scrape] = []
        while not scrapes:
            assert time.time() < began + 30, "Prometheus must have scraped again"
            load(server.address, 3)
            now = time.time() - 0.7  # what was scraped until then is stored by now
            scrapes = raw(address, 2, now) if now > began + 2.1 else []
        found = shown(view_of("", Between(*scrapes)))
        expected = {name: answers(address, query, now) for name, query in EXPRESSIONS.items()}

    for name, numbers in expected.items():
        assert numbers, name
        of_labels = {label: found[name][label] for label in numbers}
        assert of_labels == pytest.approx(numbers, rel=0.05), name


def test_one_view_for_people_and_one_for_programs(server: Process) -> None:
    load(server.address, 2)
    shown = lossd(server.metrics_url, "--once", "--interval", "0.1")
    told = json.loads(lossd(server.metrics_url, "--once", "--interval", "0.1", "--json").stdout)

    assert shown.exit_code == 0, shown.output
    assert "on numpy, ready, over 0." in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
    for text in ("cross_entropy", "INVALID_PARAMETER", "roc_auc", "compute", "calls in flight"):
        assert text in shown.output
    assert told["is_ready"] is True
    assert {one["loss"] for one in told["losses"]} == {"cross_entropy", "huber"}
    assert {one["thing"] for one in told["used"]} >= {"memory", "bytes in flight"}


def test_what_goes_into_a_pipe_is_whole() -> None:
    long = "binary_classifier_optimization"
    answers: Any = {"log_probabilities": [-1.0, -2.0], "reference_log_probabilities": [-1.5, -1.5]}
    with serve("--backend", "numpy", "--jobs", "run7") as process:
        with LossClient(process.address) as client:
            client.compute(BinaryClassifierOptimization(), **answers, desirable=[True, False])
        look = (process.metrics_url, "--once", "--interval", "0.1")
        whole, cut = lossd(*look, columns=0).stdout, lossd(*look).stdout

    assert long in whole
    assert long not in cut


def test_a_host_and_a_port_are_enough(server: Process) -> None:
    place = server.metrics_url.split("/")[2]

    assert lossd(place, "--once", "--interval", "0.1").exit_code == 0


@pytest.mark.parametrize("columns", [80, 120])
def test_large_numbers_fit_the_terminal(columns: int) -> None:
    long = "binary_classifier_optimization"
    row = LossRow(long, 123456.7, 12345.6, 98765432.1, 1.0, 12.34, 29.9, {"run7": -1.2345e-5})
    timed = Timed("evaluate", 123456.7, 12.345, 0.000123, 29.9)
    view = View(
        url="http://losses.example.com:9464/metrics", seconds=2, version="1.22.333",
        backend="cupy", is_ready=False, is_fallback=True, losses_off_the_gpu=[long],
        calls_per_second=123456.7, failed_per_second=12345.6, processor_cores=15.99,
        methods=[], phases=[timed], losses=[row] * 40, metrics=[timed],
        rejections=[Rejection("CERTIFICATE_UNKNOWN", 12345.6, 9876543210)], moved=[], used=[],
        gpus=[GpuRow("NVIDIA H100 80GB HBM3 MIG 1g.10gb of a long name", 9e10, 1e11, 0.37)],
    )  # fmt: skip
    console = Console(width=columns, record=True, file=io.StringIO())
    console.print(view_text(view, columns))
    lines = console.export_text().splitlines()

    assert max(map(len, lines)) <= columns
    assert any("and 28 others" in line for line in lines)
    assert any("GPU computes" in line and "37% of the time" in line for line in lines)
    assert any("memory of NVIDIA" in line and "83.8 GiB of 93.1 GiB" in line for line in lines)
    assert any(re.search(r"12345[67]", line.replace(",", "")) for line in lines)


def test_a_server_that_was_started_again_has_no_rate_below_zero() -> None:
    key = ("lossd_requests_total", frozenset({("loss", "huber"), ("status", "OK")}))
    view = view_of("", Between(Scrape(0, {key: 100.0}), Scrape(2, {key: 10.0})))

    assert view.losses[0].batches_per_second == 5


def test_of_a_loss_the_name_is_cut_and_never_a_number() -> None:
    long = "binary_classifier_optimization"
    row = LossRow(long, 1234.5, 0.1, 123456.7, 0, 0.0123, 0.0299, {"run7": -1.2345e-5})
    key = ("lossd_ready", frozenset[tuple[str, str]]())
    empty = view_of("", Between(Scrape(0, {}), Scrape(1, {key: 1.0})))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(view_text(replace(empty, losses=[row]), 80))
    (head,) = (line for line in console.export_text().splitlines() if line.startswith("loss "))
    console.print(view_text(replace(empty, losses=[row]), 80))
    (line,) = (one for one in console.export_text().splitlines() if one.startswith("binary_"))

    assert head.split() == ["loss", "batches/s", "examples/s", "failed/s", "p50", "p99", "value"]
    assert line.split()[1:] == [
        "1,234.5",
        "123,457",
        "0.1",
        "12.3",
        "ms",
        "29.9",
        "ms",
        "-1.234e-05",
    ]


def test_a_gpu_is_what_the_metrics_of_the_server_say_of_it() -> None:
    device = frozenset({("device", "a GPU")})
    values = {
        ("lossd_gpu_memory_used_bytes", device): 10.0,
        ("lossd_gpu_memory_bytes", device): 40.0,
    }
    busy = ("lossd_gpu_utilization_ratio", device)

    def seen(more: dict[Any, float]) -> Any:
        return view_of("", Between(Scrape(0, {}), Scrape(1, values | more))).gpus

    assert seen({busy: 0.5}) == [GpuRow("a GPU", 10, 40, 0.5)]
    assert seen({busy: math.nan}) == seen({}) == [GpuRow("a GPU", 10, 40, None)]
    assert view_of("", Between(Scrape(0, {}), Scrape(1, {}))).gpus == []


@pytest.mark.parametrize(
    "url",
    ["", "a b", "http://", "ftp://localhost/metrics", "localhost:x", "localhost:99999",
     "localhost:0", "http://[::1", "http://localhost/a\tb"],
)  # fmt: skip
@pytest.mark.parametrize("way", [("--once",), ()], ids=["once", "watched"])
def test_a_url_of_no_page_is_a_wrong_use(url: str, way: tuple[str, ...]) -> None:
    done = lossd(url, *way)

    assert done.exit_code == 2, done.output
    assert "Error: url must be the page of a server's metrics, such as http://" in done.output
    assert done.output.endswith(f"got {url!r}\n") or "://" not in url


def test_what_cannot_be_had_is_told_in_a_line(server: Process) -> None:
    for arguments, status, said in (
        (("127.0.0.1:1", "--once"), 1, "http://127.0.0.1:1/metrics: "),
        (("127.0.0.1:1",), 1, "http://127.0.0.1:1/metrics: "),
        ((server.metrics_url.removesuffix("metrics") + "nothing", "--once"), 1, "Not Found"),
        ((server.address, "--once"), 1, f"http://{server.address}/metrics must be a page of"),
        ((server.address,), 1, f"http://{server.address}/metrics must be a page of metrics"),
        (("http://unix:/x", "--once"), 1, "http://unix:/x: "),
        ((server.metrics_url, "--json"), 2, "--json must come with --once"),
        ((server.metrics_url, "--once", "--interval", "0"), 2, "--interval"),
    ):
        done = lossd(*arguments)
        assert (done.exit_code, said in done.output) == (status, True), done.output


def test_a_page_with_tls_is_asked_by_its_authorities(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("pages").write(tmp_path, "pages")
    ca = tmp_path / "ca.pem"
    ca.write_bytes("\ufeff# autorité\n".encode() + authority.certificate)
    flags = ("--metrics-tls-cert", str(certificate), "--metrics-tls-key", str(key))
    with serve("--backend", "numpy", "--threads", "1", *flags) as process:
        page = process.metrics_url.removeprefix("https://").removesuffix("/metrics")
        for arguments, status, said in (
            ((page, "--tls-ca", ca), 0, f"https://{page}/metrics"),
            ((f"https://{page}", "--tls-ca", ca), 0, f"https://{page}/metrics"),
            ((page,), 1, "; does it want https?"),
            ((page, "--tls-ca", key), 1, f"--tls-ca must hold certificates in PEM, got {key}: "),
            ((f"http://{page}", "--tls-ca", ca), 2, "--tls-ca must come with a page of https"),
            (("--tls-ca", ca), 1, "https://localhost:9464/metrics: "),
        ):
            done = lossd(*map(str, arguments), "--once", "--interval", "0.1")
            assert (done.exit_code, said in done.output) == (status, True), done.output
