"""IMAGES: an example is an image, which is compared in the layers of a network.

The body is given the same as for FEATURES, with maps that a network computes from the images; a
loss whose layout has no layers is given those that the network has linear heads for, and after the
maps as many heads (channels,).  The gradients that it returns are with respect to the maps too.

Each image goes through the network alone, forward and backward, before the next one does: so memory
is bounded, and no image's result depends on another.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lossd.backends import Array, Backend, Body
from lossd.batch import Batch, Given, Layout, Slot, shape_error
from lossd.losses import BodyResult, Input, Loss
from lossd.networks import DeviceNetwork, ImagePipeline
from lossd.shapes._by_example import ByExample
from lossd.shapes._image_pipeline import image_pipeline
from lossd.shapes._layouts import common_shape


class ImagesShape(ByExample):
    """See the module."""

    is_quick = False

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        del loss, declared
        return ("(N, C, H, W)",)

    def block_rows(self, length: int) -> int:
        """Returns one, since an image is as much work as many rows."""
        del length
        return 1

    def working(
        self, loss: Loss, layout: Layout, parameters: Mapping[str, Any], workers: int
    ) -> int:
        """See ``ShapeRules.working``: what images take inside the network, one for each thread."""
        del loss, parameters
        if layout.pipeline is None:
            return 0
        height, width = layout.slots[0].shape[2:]
        inside = layout.pipeline.bytes_inside(height, width, np.dtype(np.float32))
        return min(layout.rows, workers) * inside

    def lay_out(self, given: Given) -> Layout:
        """Lays out images (N, C, H, W) of one size."""
        shape = given.shape
        if len(shape) != 4 or 0 in shape[1:]:
            rule = "the axes N, C, H and W of images with a pixel"
            raise shape_error(given.first.name, rule, shape)
        common_shape(given)
        pipeline = image_pipeline(given)
        slots = tuple(Slot(declared, shape, shape) for declared in given.loss.inputs)
        length, taps = math.prod(shape[1:]), len(pipeline.taps)
        return Layout(slots, shape[:1], shape[0], length, columns=taps, pipeline=pipeline)

    def check_rules(self, batch: Batch) -> None:
        """Does nothing: without images there are no maps that the body could be given."""

    def body(self, batch: Batch, backend: Backend) -> Body:
        """See ``ByExample.body``."""
        if batch.pipeline is None:
            raise TypeError(f"{batch.loss.name} has no network to look through")
        place = functools.partial(backend.network, batch.pipeline.network, batch.dtype)
        return functools.partial(_forward, batch, batch.pipeline, place)


def _forward(
    batch: Batch,
    pipeline: ImagePipeline,
    place: Callable[[], DeviceNetwork],
    xp: Any,
    *images: Any,
    **parameters: Any,
) -> BodyResult:
    """Evaluates the loss of some pairs of images, and the gradients that the batch wants."""
    on_device = place()
    names = [operand.name for operand in batch.operands]
    given = dict(zip(names, images, strict=True))
    count = len(images[0])
    values = xp.zeros(count, batch.dtype)
    statuses = xp.zeros(count, np.uint8)
    gradients = {name: xp.empty_like(given[name]) for name in batch.gradients}
    for row in range(count):
        pair = {name: array[row] for name, array in given.items()}
        found, derivatives = _forward_of_one(batch, pipeline, on_device, pair, parameters)
        values[row] = found.value[0]
        if found.statuses is not None:
            statuses[row] = found.statuses[0]
        for name, derivative in derivatives.items():
            gradients[name][row] = derivative
    return BodyResult(values, gradients, statuses=statuses)


def _forward_of_one(
    batch: Batch,
    pipeline: ImagePipeline,
    on_device: DeviceNetwork,
    pair: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> tuple[BodyResult, dict[str, Array]]:
    seen = {
        name: pipeline.forward(on_device, image, with_way=name in batch.gradients)
        for name, image in pair.items()
    }
    maps = [a.reshape(1, len(a), -1) for one in seen.values() for a in one.activations.maps]
    heads = on_device.heads if pipeline.has_heads else ()
    found = batch.loss.body(on_device.on.xp, *maps, *heads, **parameters)
    derivatives = {}
    for name in batch.gradients:
        by_maps = [
            found.gradient(f"{name}[{layer}]").reshape(a.shape)
            for layer, a in enumerate(seen[name].activations.maps)
        ]
        derivatives[name] = seen[name].gradient(by_maps)
    return found, derivatives
