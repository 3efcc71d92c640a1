"""Losses of images: what they share on every backend.

Each image goes through the network alone, and back, before the next one does: so memory is bounded,
and no image's result depends on another.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lossd.backends import Array
from lossd.batch import Batch
from lossd.losses import Evaluation
from lossd.networks import Placed


def look(
    batch: Batch, placed: Placed, images: Sequence[Any], parameters: Mapping[str, Any]
) -> Evaluation:
    """Evaluates the loss of some pairs of images, and the gradients that the batch wants."""
    names = [operand.name for operand in batch.operands]
    given = dict(zip(names, images, strict=True))
    xp, count = placed.on.xp, len(images[0])
    values = xp.zeros(count, batch.dtype)
    statuses = xp.zeros(count, np.uint8)
    gradients = {name: xp.empty_like(given[name]) for name in batch.gradients}
    for row in range(count):
        pair = {name: array[row] for name, array in given.items()}
        found, slopes = _look_at_one(batch, placed, pair, parameters)
        values[row] = found.value[0]
        if found.statuses is not None:
            statuses[row] = found.statuses[0]
        for name, slope in slopes.items():
            gradients[name][row] = slope
    return Evaluation(values, gradients, statuses=statuses)


def _look_at_one(
    batch: Batch, placed: Placed, pair: Mapping[str, Any], parameters: Mapping[str, Any]
) -> tuple[Evaluation, dict[str, Array]]:
    if batch.view is None:
        raise TypeError(f"{batch.loss.name} has no network to look through")
    seen = {
        name: batch.view.through(placed, image, with_way=name in batch.gradients)
        for name, image in pair.items()
    }
    maps = [a.reshape(1, len(a), -1) for one in seen.values() for a in one.sight.maps]
    heads = placed.heads if batch.view.has_heads else ()
    found = batch.loss.body(placed.on.xp, *maps, *heads, **parameters)
    slopes = {}
    for name in batch.gradients:
        by_maps = [
            found.gradient(f"{name}[{layer}]").reshape(a.shape)
            for layer, a in enumerate(seen[name].sight.maps)
        ]
        slopes[name] = seen[name].gradient(by_maps)
    return found, slopes
