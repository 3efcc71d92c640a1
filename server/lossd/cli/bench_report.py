"""The report of ``lossd bench``: two tables, and a chart."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from lossd.cli.files import writing
from lossd.cli.measuring import PERCENTILES, PHASES, Row
from lossd.cli.workloads import DTYPES


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """Yields what callers see, and where the time and the memory go in the server.

    Each fits 80 columns.
    """
    seen = _table(f"{_title(rows[0])}; times in ms", "calls/s", "GB/s", *rows[0].milliseconds)
    inside = _table("In the server, medians in ms", *PHASES, "peak MiB")
    for row in rows:
        kind = row.transport, "x".join(map(str, row.shape)), str(row.callers)
        times = [row.gigabytes_per_second, *row.milliseconds.values()]
        peak = "" if row.peak_bytes is None else f"{row.peak_bytes / (1 << 20):.1f}"
        seen.add_row(*kind, f"{row.calls_per_second:.4g}", *map(_short, times))
        inside.add_row(*kind, *map(_short, row.phases.values()), peak)
    yield from (seen, inside)


def _title(row: Row) -> str:
    """Returns what was called, for example "cross_entropy, float16, label_smoothing=0.1"."""
    return ", ".join((row.loss, row.dtype, *row.parameters))


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", padding=0, pad_edge=False)
    for head in ("transport", "shape", "callers"):
        table.add_column(head, justify="right" if head == "callers" else "left")
    for head in heads:
        table.add_column(head, justify="right")
    return table


def _short(number: float) -> str:
    return f"{number:.3g}" if number >= 0.01 else f"{number:.4f}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws latency over size, of the fewest callers; where there is one size, over all kinds."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - the extra "plot" brings it

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(ylabel="latency, ms")
    if len({row.shape for row in rows}) == 1:
        _bars(axes, rows)
    else:
        _lines(axes, rows)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    with writing(path):
        figure.savefig(path, dpi=120)


def _lines(axes: Any, rows: Sequence[Row]) -> None:
    """Draws a line for the median of each transport, and the 99th percentile above."""
    fewest = min(row.callers for row in rows)
    for transport in dict.fromkeys(row.transport for row in rows):
        own = [row for row in rows if (row.transport, row.callers) == (transport, fewest)]
        own.sort(key=lambda row: math.prod(row.shape))
        sizes = [DTYPES[row.dtype].itemsize * math.prod(row.shape) / (1 << 20) for row in own]
        medians, tails = ([row.milliseconds[p] for row in own] for p in ("p50", "p99"))
        (line,) = axes.plot(sizes, medians, marker="o", label=transport.replace("_", " "))
        axes.fill_between(sizes, medians, tails, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_title(f"{_title(rows[0])}, {_of_callers(fewest)}")
    axes.set(xlabel="size of the first input, MiB", xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.legend(frameon=False, title="median, and up to p99", title_fontsize="small")


def _bars(axes: Any, rows: Sequence[Row]) -> None:
    """Draws a bar from zero for each percentile, side by side for each kind of call."""
    percentiles = [f"p{p}" for p in PERCENTILES]
    width = 0.8 / len(percentiles)
    for number, name in enumerate(percentiles):
        positions = [index + number * width for index in range(len(rows))]
        axes.bar(positions, [row.milliseconds[name] for row in rows], width, label=name)
    middle = width * (len(percentiles) - 1) / 2
    labels = [f"{row.transport.replace('_', ' ')}\n{_of_callers(row.callers)}" for row in rows]
    axes.set_xticks([index + middle for index in range(len(rows))], labels, fontsize="small")
    axes.set_title(f"{_title(rows[0])}, {'x'.join(map(str, rows[0].shape))}")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)


def _of_callers(count: int) -> str:
    return "1 caller" if count == 1 else f"{count} callers"
