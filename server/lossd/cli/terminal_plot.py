"""Curves of a loss in a terminal, where the extra "plot" is installed."""

import sys

from lossd.backends.numpy import NumpyBackend
from lossd.cli import charts
from lossd.cli.shown import can_show
from lossd.engine import Engine
from lossd.losses import Loss, Shape

_ROWS = 12
_BESIDE = 12  # columns of the frame and of the numbers to its right
_NARROWEST = 24
_WIDEST = 72


def plot_text(loss: Loss, width: int) -> str:
    """Returns a plot of the loss and its gradient.

    It is an empty text without a curve, and where there is no room for it or stdout cannot show it.
    """
    try:
        import uniplot  # noqa: PLC0415 - only the extra "plot" has it
    except ModuleNotFoundError:
        return ""
    if loss.shape is not Shape.POINTWISE or width < _NARROWEST:
        return ""
    engine = Engine(NumpyBackend(threads=1))
    try:
        curves = charts.curves(engine, loss)
    finally:
        engine.backend.close()
    pictures = {
        "loss over prediction": [curve.values for curve in curves],
        "gradient over prediction": [curve.derivatives for curve in curves],
    }
    drawn = (
        uniplot.plot_to_string(
            lines,
            [curve.predictions for curve in curves],
            lines=True,
            title=title,
            legend_labels=[f"target {curve.target:g}" for curve in curves],
            width=min(width, _WIDEST) - _BESIDE,
            height=_ROWS,
            x_min=-charts.REACH,
            x_max=charts.REACH,
            color=sys.stdout.isatty(),
        )
        for title, lines in pictures.items()
    )
    plot = "\n".join(line.rstrip() for text in drawn for line in text.splitlines())
    return plot if can_show(plot) else ""
