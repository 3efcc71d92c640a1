"""``lossd bench``: what it counts, and that it measures every transport."""

import json
import time
from pathlib import Path

from click.testing import CliRunner

from lossd.cli import command
from lossd.cli.bench import TRANSPORTS, at_a_rate
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


def test_a_shape_that_is_none_is_one_clear_line() -> None:
    done = CliRunner().invoke(command, ["bench", "--shape", "0x3"])
    assert done.exit_code == 1
    assert "--shape must be ROWSxCLASSES" in done.output
