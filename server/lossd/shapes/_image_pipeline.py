"""The network and the layers that a job looks at images through, from its parameters."""

from collections.abc import Mapping
from typing import Any

from lossd.batch import Given, compute_type, shape_error
from lossd.errors import InvalidParameter, TooLarge
from lossd.losses import Loss
from lossd.networks import ImagePipeline, Network, Networks
from lossd.schema import exactly


def image_pipeline(given: Given) -> ImagePipeline:
    """Returns the network, layers and pixel range of a job.

    Raises:
        InvalidParameter: for a network or a layer that does not exist, or an empty range of values.
        InvalidTensor: for images that the network does not accept.
        TooLarge: for images that would take more memory inside it than they may.
    """
    loss, parameters = given.loss, given.parameters
    low, high = _value_range(loss, parameters["value_range"])
    network = _network(loss, parameters["network"], given.networks)
    found = ImagePipeline(
        network=network,
        taps=_taps(loss, parameters, network),
        has_heads="layers" not in parameters,
        low=low,
        high=high,
        replicates=_replicates(given, network),
    )
    _check_size(given, found)
    return found


def _refused(loss: Loss, parameter: str, rule: str) -> InvalidParameter:
    return InvalidParameter(f"{parameter} must {rule}", field=f"loss.{loss.name}.{parameter}")


def _value_range(loss: Loss, given: tuple[float, ...]) -> tuple[float, float]:
    if len(given) != 2 or not given[0] < given[1]:
        words = ", ".join(map(exactly, given[:3]))
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
    """Returns the positions of the layers that are asked for, or of those with linear heads."""
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


def _replicates(given: Given, network: Network) -> bool:
    """Returns whether the one channel of grey images is repeated for all of the network's."""
    shape = given.shape
    if shape[1] == network.channels:
        return False
    if shape[1] == 1 and given.parameters["replicate_grey"]:
        return True
    rule = f"{network.channels} channels for {network.name}"
    if shape[1] == 1:
        rule += ", or one with replicate_grey"
    raise shape_error(given.first.name, rule, shape)


def _check_size(given: Given, found: ImagePipeline) -> None:
    name, shape, limit = given.first.name, given.shape, given.networks.max_bytes
    height, width = shape[2:]
    for layer, size in zip(found.network.layers, found.sizes(height, width), strict=False):
        if min(size) <= 0:
            raise shape_error(
                name, f"images large enough for {layer} of {found.network.name}", shape
            )
    needed = found.bytes_inside(height, width, compute_type(given.arrays))
    if needed > limit:
        raise TooLarge(
            f"{name} must have images that take at most {limit} bytes inside {found.network.name}, "
            f"got {height} x {width} pixels, which take about {needed}",
            field=f"inputs.{name}.shape",
            details={"limit": limit, "needed": needed},
        )
