"""Views of a server as text, for terminals from 80 columns on."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lossd.cli.shown import can_show
from lossd.cli.top_view import LossRow, Timed, Used, View

_MOST_ROWS = 12  # of a table, where the height is not known
_BAR = 24
_BLOCKS, _SIGNS = ("█", "░"), ("#", "-")  # of a bar: full and not, and where there are no blocks
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def view_text(view: View, width: int, height: int | None = None) -> RenderableType:
    """Returns a view; tables are cut to a height in lines."""
    rows = _MOST_ROWS if height is None else max(3, (height - 24) // 2)
    parts: list[RenderableType] = [
        _head(view, width), "", _used(view), _moved(view),
    ]  # fmt: skip
    parts = [one for one in parts if not isinstance(one, Table) or one.row_count]
    for title, table in (
        ("phase", _timed("phase", view.phases)),
        ("loss", _losses(view.losses, rows, width)),
        ("metric", _counted("metric", [(m.name, m.per_second, None) for m in view.metrics][:rows])),
        ("rejected", _counted(
            "rejected because", [(r.reason, r.per_second, r.total) for r in view.rejections][:rows]
        )),
    ):  # fmt: skip
        if table.row_count or title == "loss":
            parts += ["", table]
    return Group(*parts)


def waiting_text(url: str, reason: str) -> RenderableType:
    """Returns what is shown while there is no view."""
    return Text(f"waiting for {url}\n{reason}")


def _head(view: View, width: int) -> Text:
    state = ("ready", "green") if view.is_ready else ("not ready", "red")
    text = Text.assemble(
        ("lossd ", "bold"), (view.version, "bold"), f" on {view.backend}, ", state,
        f", over {view.seconds:.1f} s\n", view.url,
        f"\n{view.calls_per_second:,.1f} calls/s, {view.failed_per_second:,.1f} failed/s, "
        f"{view.processor_cores:.2f} cores busy",
    )  # fmt: skip
    if view.is_fallback:
        text.append("\nno GPU could be used: the CPU computes", "yellow")
    if view.losses_off_the_gpu:
        text.append(f"\nthe CPU computes {', '.join(view.losses_off_the_gpu)}", "yellow")
    text.truncate(max(width, 1) * 8)
    return text


def _used(view: View) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="ellipsis", no_wrap=True, max_width=30)
    for gpu in view.gpus:
        if gpu.utilization is not None:
            busy = f"{gpu.utilization:.0%} of the time"
            table.add_row("GPU computes", _bar(gpu.utilization), busy)
    memories = [
        Used(f"memory of {gpu.device}", gpu.memory_used, gpu.memory, is_bytes=True)
        for gpu in view.gpus
    ]
    for one in (*memories, *view.used):
        share = one.used / one.limit if one.limit else None
        amount = _bytes(one.used) if one.is_bytes else f"{one.used:,.0f}"
        if one.limit is not None:
            amount += f" of {_bytes(one.limit) if one.is_bytes else f'{one.limit:,.0f}'}"
        table.add_row(one.thing, _bar(share), amount)
    return table


def _bar(share: float | None) -> Text:
    if share is None:
        return Text("")
    full = round(min(max(share, 0.0), 1.0) * _BAR)
    colour = "red" if share > 0.9 else "yellow" if share > 0.7 else "green"
    filled, left = _BLOCKS if can_show("".join(_BLOCKS)) else _SIGNS
    return Text.assemble((filled * full, colour), (left * (_BAR - full), "dim"))


def _moved(view: View) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for one in view.moved:
        asked, answered = one.request_bytes_per_second, one.reply_bytes_per_second
        table.add_row(one.transport, f"{_bytes(asked)}/s in", f"{_bytes(answered)}/s out")
    return table


def _timed(title: str, timed: Sequence[Timed]) -> Table:
    table = _table(title, "calls/s", "mean", "p50", "p99")
    for one in timed:
        times = (one.mean_seconds, one.p50_seconds, one.p99_seconds)
        table.add_row(one.name, _rate(one.per_second), *map(_time, times))
    return table


def _losses(losses: Sequence[LossRow], most: int, width: int) -> Table:
    shows_values = any(one.values for one in losses)
    last = ("value",) if shows_values else ()
    heads = ("batches/s", "examples/s", "failed/s", "p50", "p99", *last)
    rows = []
    for one in losses[:most]:
        rates = (one.batches_per_second, one.examples_per_second, one.failed_per_second)
        times = (one.p50_seconds, one.p99_seconds)
        values = " ".join(f"{value:.4g}" for value in one.values.values())
        cells = [*map(_rate, rates), *map(_time, times)]
        rows.append([*cells, values] if shows_values else cells)
    table = _table("loss", *heads)
    numbers = sum(max(map(len, column)) + 2 for column in zip(heads, *rows, strict=True))
    table.columns[0].max_width = max(16, width - numbers - 2)  # rather cut names than numbers
    for one, cells in zip(losses, rows, strict=False):
        table.add_row(one.loss, *cells)
    if (others := len(losses) - most) > 0:
        table.add_row(f"and {others} {'other' if others == 1 else 'others'}")
    return table


def _counted(title: str, rows: Sequence[tuple[str, float, float | None]]) -> Table:
    has_totals = any(total is not None for _, _, total in rows)
    table = _table(title, "calls/s", *(("in all",) if has_totals else ()))
    for name, rate, total in rows:
        table.add_row(name, _rate(rate), *((f"{total:,.0f}",) if total is not None else ()))
    return table


def _table(title: str, *heads: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(title, overflow="ellipsis", no_wrap=True, min_width=16)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _rate(value: float) -> str:
    return f"{value:,.1f}" if value < 100_000 else f"{value:,.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _bytes(count: float) -> str:
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} B"
