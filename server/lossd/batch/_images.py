"""Images, and the network that they are looked at through."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lossd.batch._job import Array
from lossd.batch._shapes import Layout, Operand, shape_error
from lossd.errors import InvalidParameter, TooLarge
from lossd.losses import Loss
from lossd.networks import Network, Networks, View


def lay_out_images(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """Images (N, C, H, W) of one size."""
    del parameters
    first, second = loss.inputs
    shape = arrays[first.name].shape
    if len(shape) != 4 or 0 in shape[1:]:
        raise shape_error(first.name, "the axes N, C, H and W of images with a pixel", shape)
    if arrays[second.name].shape != shape:
        raise shape_error(
            second.name, f"the shape {list(shape)} of {first.name}", arrays[second.name].shape
        )
    operands = tuple(
        Operand(declared, np.ascontiguousarray(arrays[declared.name]), shape)
        for declared in loss.inputs
    )
    return Layout(operands, shape[:1], shape[0], math.prod(shape[1:]))


def view(loss: Loss, layout: Layout, parameters: Mapping[str, Any], networks: Networks) -> View:
    """How a job looks at its images.

    Raises:
        InvalidParameter: for a network or a layer that is not there, or no range of values.
        InvalidTensor: for images that the network does not take.
        TooLarge: for images that would take more memory inside it than they may.
    """
    low, high = _value_range(loss, parameters["value_range"])
    network = _network(loss, parameters["network"], networks)
    found = View(
        network=network,
        taps=_taps(loss, parameters, network),
        has_heads="layers" not in parameters,
        low=low,
        high=high,
        replicates=_replicates(loss, layout, parameters, network),
    )
    _check_size(loss, layout, found, networks.max_bytes)
    return found


def _refused(loss: Loss, parameter: str, rule: str) -> InvalidParameter:
    return InvalidParameter(f"{parameter} must {rule}", field=f"loss.{loss.name}.{parameter}")


def _value_range(loss: Loss, given: tuple[float, ...]) -> tuple[float, float]:
    if len(given) != 2 or not given[0] < given[1]:
        words = ", ".join(f"{number:g}" for number in given[:3])
        raise _refused(
            loss, "value_range", f"be what black and white are, the lower first, got [{words}]"
        )
    return given[0], given[1]


def _network(loss: Loss, name: str, networks: Networks) -> Network:
    if name not in networks.by_name:
        known = ", ".join(networks.by_name) or "none: this server has no networks"
        raise _refused(loss, "network", f"be one of the server's ({known}), got {name[:64]!r}")
    return networks.by_name[name]


def _taps(loss: Loss, parameters: Mapping[str, Any], network: Network) -> tuple[int, ...]:
    """The places of the layers that are asked for, or of those with linear heads."""
    if "layers" in parameters:
        names = parameters["layers"]
        if not names:
            raise _refused(loss, "layers", "be at least one, got none")
        for name in names:
            if name not in network.layers:
                known = ", ".join(network.layers)
                raise _refused(
                    loss, "layers", f"be among those of {network.name} ({known}), got {name[:64]!r}"
                )
    elif network.heads is None:
        raise _refused(loss, "network", f"have linear heads, got {network.name}, which has none")
    else:
        names = network.heads.layers
    return tuple(network.layers.index(name) for name in names)


def _replicates(
    loss: Loss, layout: Layout, parameters: Mapping[str, Any], network: Network
) -> bool:
    """Whether the one channel of grey images stands for all of the network's."""
    shape = layout.operands[0].shape
    if shape[1] == network.channels:
        return False
    if shape[1] == 1 and parameters["replicate_grey"]:
        return True
    rule = f"{network.channels} channels for {network.name}"
    if shape[1] == 1:
        rule += ", or one with replicate_grey"
    raise shape_error(loss.inputs[0].name, rule, shape)


def _check_size(loss: Loss, layout: Layout, found: View, limit: int) -> None:
    name, shape = loss.inputs[0].name, layout.operands[0].shape
    height, width = shape[2:]
    for layer, size in zip(found.network.layers, found.sizes(height, width), strict=False):
        if min(size) <= 0:
            raise shape_error(
                name, f"images large enough for {layer} of {found.network.name}", shape
            )
    double = any(operand.rows.dtype == np.float64 for operand in layout.operands)
    needed = found.bytes_inside(height, width, np.dtype(np.float64 if double else np.float32))
    if needed > limit:
        raise TooLarge(
            f"{name} must have images that take at most {limit} bytes inside {found.network.name}, "
            f"got {height} x {width} pixels, which take about {needed}",
            field=f"inputs.{name}.shape",
            details={"limit": limit, "needed": needed},
        )
