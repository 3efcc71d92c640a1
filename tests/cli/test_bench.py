"""``lossd bench``: what it counts, and that it measures every transport."""

import io
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from lossd.cli import command
from lossd.cli.bench import TRANSPORTS
from lossd.cli.bench_report import tables
from lossd.cli.measuring import PHASES, Row, at_a_rate
from lossd.cli.served import running_server
from lossd.client.result import LossResult, ServerTiming


def result() -> LossResult:
    timing = ServerTiming(receive=0, decode=0, queue=0, compute=0, evaluate=0)
    return LossResult(
        loss=0.0, per_example=None, gradients={}, loss_sum=0.0, weight_sum=0.0, example_count=0,
        ignored_count=0, nonfinite_count=0, statuses={}, status=None, outputs={}, metrics=(),
        terms=(), backend="numpy", transport="grpc", server_timing=timing,
    )  # fmt: skip


def test_a_call_that_waits_for_a_slow_one_counts_with_its_wait() -> None:
    slow = iter([True])

    def call() -> LossResult:
        if next(slow, False):
            time.sleep(0.2)
        return result()

    latencies, _ = at_a_rate(call, callers=1, rate=100, count=10)
    assert latencies[0] >= 0.2
    assert latencies[5] >= 0.14  # due at 50 ms, begun after 200
    assert len(latencies) == 10


def test_every_transport_is_measured_and_written(tmp_path: Path) -> None:
    report, plot = tmp_path / "report.json", tmp_path / "plot.png"
    arguments = ["bench", "--seconds", "0.1", "--shape", "200x100", "--callers", "2"]
    done = CliRunner().invoke(command, [*arguments, "--json", str(report), "--plot", str(plot)])
    assert done.exit_code == 0, done.output
    rows = json.loads(report.read_text())
    assert [row["transport"] for row in rows] == list(TRANSPORTS)
    for row in rows:
        took = row["milliseconds"]
        assert 0 < took["p50"] <= took["p90"] <= took["p99"] <= took["max"]
        assert row["calls"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_tables_fit_the_terminal(columns: int) -> None:
    row = Row(
        transport="shared_memory", shape=(65536, 32000), callers=64, calls=12345678,
        calls_per_second=1234.5, gigabytes_per_second=0.000123, due_per_second=1.0,
        milliseconds=dict.fromkeys(("p50", "p90", "p99", "max"), 0.000123),
        phases=dict.fromkeys(PHASES, 0.000123), peak_bytes=123456 << 20,
    )  # fmt: skip
    console = Console(width=columns, file=io.StringIO(), record=True)
    console.print(*tables([row]), sep="\n")
    shown = console.export_text()

    assert max(len(line.rstrip()) for line in shown.splitlines()) <= columns
    assert "…" not in shown
    assert shown.count("65536x32000") == 2


def test_a_running_server_is_measured(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ["bench", "--seconds", "0.1", "--shape", "20x10", "--callers", "1"]
    with running_server("--log-level", "warning") as server:
        done = CliRunner().invoke(
            command, [*arguments, "--address", server.address, "--json", str(report)]
        )
    (row,) = json.loads(report.read_text())

    assert done.exit_code == 0, done.output
    assert (row["transport"], row["peak_bytes"]) == ("grpc", None)
    assert row["calls"] > 0


def test_the_report_goes_to_stdout_without_a_file() -> None:
    arguments = ["bench", "--seconds", "0.1", "--shape", "20x10", "--callers", "1"]
    done = CliRunner().invoke(command, [*arguments, "--transport", "tcp", "--json"])

    assert [row["shape"] for row in json.loads(done.stdout)] == [[20, 10]]


def test_a_shape_that_is_none_is_one_clear_line() -> None:
    done = CliRunner().invoke(command, ["bench", "--shape", "0x3"])
    assert done.exit_code == 2
    assert "--shape must be ROWSxCLASSES" in done.output
