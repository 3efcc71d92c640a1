"""Draws the pointwise losses of the catalogue, each from its declaration alone."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import Input, Loss
from lossd.reduction import Reduction

Floats = npt.NDArray[np.float64]

REACH = 3.0  # predictions are drawn from -3 to 3
POINTS = 601
COLUMNS = 4


@dataclass(frozen=True, slots=True)
class LossCurve:
    """A loss and its gradient for one target, with default parameters."""

    target: float
    predictions: Floats
    values: Floats
    derivatives: Floats


def curves(engine: Engine, loss: Loss) -> list[LossCurve]:
    """Returns one curve for each interesting target, with default parameters.

    The target is 0 where any number is allowed; else targets are those of the worked examples.
    """
    targets = loss.inputs[1]
    of_examples = sorted(set(_example_numbers(loss, targets)))
    chosen = [0.0] if targets.domain is None else of_examples
    return [_curve(engine, loss, target) for target in chosen]


def _example_numbers(loss: Loss, declared: Input) -> list[float]:
    """Returns the numbers of an input in the worked examples, in their order."""
    arrays = [np.asarray(example.inputs[declared.name], float) for example in loss.examples]
    return [float(number) for array in arrays for number in array.reshape(-1)]


def _curve(engine: Engine, loss: Loss, target: float) -> LossCurve:
    first, targets, *others = loss.inputs
    predictions = np.linspace(-REACH, REACH, POINTS)
    held = {targets.name: target} | {o.name: _example_numbers(loss, o)[0] for o in others}
    inputs = {name: [np.full_like(predictions, number)] for name, number in held.items()}
    job = Job(
        loss=loss,
        parameters={},
        inputs={first.name: [predictions], **inputs},
        gradients=(first.name,),
        reduction=Reduction.NONE,
    )
    result = engine.run(job)
    return LossCurve(
        target, predictions, np.asarray(result.per_example), result.gradients[first.name]
    )


def draw(engine: Engine, losses: Iterable[Loss], path: Path) -> None:
    """Draws small multiples: for each loss, its value above its gradient.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
        ValueError: if the file's name ends in a format that cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - the extra "plot" brings it

    drawn = list(losses)
    columns = min(COLUMNS, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(3.3 * columns, 3.9 * rows), layout="constrained")
    cells = figure.subfigures(rows, columns, squeeze=False).reshape(-1)
    for cell, loss in zip(cells, drawn, strict=False):
        _draw_loss(cell, loss, curves(engine, loss))
    figure.savefig(path, dpi=130)


def _draw_loss(cell: Any, loss: Loss, found: list[LossCurve]) -> None:
    above, below = cell.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.set_title(loss.message, fontsize="large", fontweight="bold")
    above.set_ylabel("loss")
    below.set_ylabel("gradient")
    below.set_xlabel("prediction")
    for curve in found:
        above.plot(curve.predictions, curve.values, label=f"{curve.target:g}")
        below.plot(curve.predictions, curve.derivatives)
    for axes in (above, below):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    below.axhline(0, color="0.5", linewidth=0.6, zorder=0)
    above.set_ylim(bottom=min(0, *above.get_ylim()))
    above.legend(title="target", fontsize="small", title_fontsize="small", frameon=False)
    cell.align_ylabels()
