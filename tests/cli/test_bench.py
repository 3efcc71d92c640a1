"""``lossd bench``: what it counts, and that it measures every transport."""

import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from lossd.cli import command
from lossd.cli.bench import TRANSPORTS
from lossd.cli.bench_report import draw, tables
from lossd.cli.measuring import PHASES, Row, at_a_rate
from lossd.cli.served import running_server
from lossd.client import LossClient
from lossd.client.result import LossResult, ServerTiming


def result() -> LossResult:
    timing = ServerTiming(receive=0, decode=0, queue=0, compute=0, evaluate=0)
    return LossResult(
        loss=0.0, per_example=None, gradients={}, loss_sum=0.0, weight_sum=0.0, example_count=0,
        ignored_count=0, nonfinite_count=0, statuses={}, status=None, outputs={}, metrics=(),
        terms=(), backend="numpy", transport="grpc", server_timing=timing,
    )  # fmt: skip


ROW = Row(
    loss="cross_entropy", parameters=("label_smoothing=0.1",), dtype="float32",
    transport="shared_memory", shape=(65536, 32000), callers=64, calls=12345678,
    calls_per_second=1234.5, gigabytes_per_second=0.000123, due_per_second=1.0,
    milliseconds=dict.fromkeys(("p50", "p90", "p99", "max"), 0.000123),
    phases=dict.fromkeys(PHASES, 0.000123), peak_bytes=123456 << 20,
)  # fmt: skip


def test_a_call_that_waits_for_a_slow_one_counts_with_its_wait() -> None:
    slow = iter([True])

    def call() -> LossResult:
        if next(slow, False):
            time.sleep(0.2)
        return result()

    latencies = at_a_rate(call, callers=1, rate=100, count=10).latencies
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
    console = Console(width=columns, file=io.StringIO(), record=True)
    console.print(*tables([ROW]), sep="\n")
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


def test_variables_of_a_server_for_others_are_left_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a socket's mode it would not start, with tokens refuse, and with a folder share it."""
    memory, tokens = tmp_path / "shared", tmp_path / "tokens"
    memory.mkdir()
    tokens.write_text("0123456789abcdef")
    for name, value in (
        ("SHM_DIR", memory), ("TOKEN_FILE", tokens), ("SOCKET_MODE", 660), ("MAX_TENSORS", 7),
        ("CALLER_CALLS_PER_SECOND", 0.001), ("DRAIN_DELAY_SECONDS", 90),
    ):  # fmt: skip
        monkeypatch.setenv(f"LOSSD_{name}", str(value))

    with running_server("--log-level", "warning") as server, LossClient(server.address) as client:
        batch = np.zeros((256, 1000), np.float32)  # as large as what is shared
        for _ in range(3):
            assert client.compute("squared_error", batch, batch).transport == "grpc"
        assert client.server_info().limits.tensors == 7
        started = time.monotonic()
    assert time.monotonic() - started < 60


def measured(*arguments: str) -> list[dict[str, Any]]:
    quick = ("--seconds", "0.1", "--callers", "1", "--transport", "tcp", "--json")
    done = CliRunner().invoke(command, ["bench", *arguments, *quick])
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_any_loss_is_measured_with_its_parameters() -> None:
    arguments = ("triplet", "--shape", "20x16", "--dtype", "float16", "--param", "margin=2")
    (row,) = measured(*arguments, "--closed")

    assert (row["loss"], row["parameters"], row["dtype"]) == ("triplet", ["margin=2"], "float16")
    assert row["due_per_second"] is None
    # Three inputs, their gradients, and a float32 for each example.
    size = row["gigabytes_per_second"] / row["calls_per_second"] * 1e9
    assert round(size) == 6 * 20 * 16 * 2 + 20 * 4


def test_calls_are_made_at_the_rate_that_was_asked_for() -> None:
    (row,) = measured("huber", "--shape", "10", "--rate", "50")

    assert (row["calls"], row["due_per_second"]) == (5, 50)
    assert row["calls_per_second"] <= 50


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shape", "0x3"), "--shape must be sizes such as 32x10"),
        (("--shape", "9000x9000"), "--shape must have at most 67108864 numbers"),
        (("ctc", "--shape", "3x4"), "--shape must be like (N, T, C)"),
        (("--rate", "5", "--closed"), "--load, --rate or --closed must come alone"),
        (("--address", "localhost:1", "--transport", "tcp"), "--transport must be left out"),
    ],
)
def test_wrong_uses_are_one_clear_line(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(command, ["bench", *arguments])
    assert (done.exit_code, said in done.output) == (2, True), done.output


@pytest.mark.parametrize("callers", [(1,), (1, 4)])
@pytest.mark.parametrize("shapes", [((32, 10),), ((32, 10), (64, 10))])
def test_the_chart_has_every_kind_that_was_measured(
    tmp_path: Path, callers: tuple[int, ...], shapes: tuple[tuple[int, ...], ...]
) -> None:
    rows = [replace(ROW, shape=shape, callers=n) for shape in shapes for n in callers]
    draw(rows, tmp_path / "chart.svg")
    texts = (tmp_path / "chart.svg").read_text()

    if len(shapes) == 1:  # bars; else lines of the fewest callers
        assert all(f"<!-- {n} caller" in texts for n in callers)
    assert "cross_entropy, float32, label_smoothing=0.1" in texts
