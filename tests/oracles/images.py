"""Losses of images: convolution after convolution in the plainest of loops."""

import functools
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import mpmath

from tests.drawn_networks import NETWORKS
from tests.oracles.adversarial import feature_matching

Maps = Sequence[Sequence[Sequence[Any]]]  # channels of rows of pixels


def perceptual(
    predictions: Maps,
    targets: Maps,
    *,
    network: str,
    layers: Sequence[str],
    value_range: Sequence[float],
    replicate_grey: bool = False,
    **options: Any,
) -> Any:
    """The distance of what both look like, layer by layer."""
    seen = [
        _seen(network, layers, value_range, _coloured(image, network, replicate_grey))
        for image in (predictions, targets)
    ]
    flat = [tuple(tuple(_flat(channel) for channel in maps) for maps in one) for one in seen]
    return feature_matching(*flat, **options)


def lpips(
    predictions: Maps,
    targets: Maps,
    *,
    network: str,
    value_range: Sequence[float],
    replicate_grey: bool = False,
) -> Any:
    """The weighted distance of directions, averaged over places."""
    heads = NETWORKS.by_name[network].heads
    assert heads is not None
    first, second = (
        _seen(network, heads.layers, value_range, _coloured(image, network, replicate_grey))
        for image in (predictions, targets)
    )
    total = mpmath.mpf(0)
    for x, y, head in zip(first, second, heads.weights, strict=True):
        places = list(product(range(len(x[0])), range(len(x[0][0]))))
        for row, column in places:
            u, v = (_direction([channel[row][column] for channel in maps]) for maps in (x, y))
            total += sum(
                mpmath.mpf(float(h)) * (a - b) ** 2 for h, a, b in zip(head, u, v, strict=True)
            ) / len(places)
    return total


def _direction(vector: Sequence[Any]) -> list[Any]:
    length = mpmath.sqrt(sum(x * x for x in vector))
    return [x / (length + mpmath.mpf(1e-10)) for x in vector]


def _flat(channel: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    return tuple(pixel for row in channel for pixel in row)


def _coloured(image: Maps, network: str, replicate: bool) -> Maps:  # noqa: FBT001
    count = len(NETWORKS.by_name[network].mean)
    return [image[0]] * count if replicate and len(image) == 1 else image


def _seen(
    name: str, layers: Sequence[str], value_range: Sequence[float], image: Maps
) -> list[Maps]:
    """Returns the maps of an image, layer by layer."""
    network = NETWORKS.by_name[name]
    low, high = (mpmath.mpf(float(end)) for end in value_range)
    maps: Maps = [
        [[((pixel - low) / (high - low) - mpmath.mpf(mean)) / mpmath.mpf(std) for pixel in row]
         for row in channel]
        for channel, mean, std in zip(image, network.mean, network.std, strict=True)
    ]  # fmt: skip
    found: dict[str, Maps] = {}
    for position, module in enumerate(network.modules):
        own = {n: _exact_weights(name, f"features.{position}.{n}") for n in ("weight", "bias")}
        maps = STEPS[type(module).__name__](maps, module, **own)
        found[module.name] = maps
    return [found[layer] for layer in layers]


@functools.cache
def _exact_weights(network: str, key: str) -> Any:
    array = NETWORKS.by_name[network].weights.get(key)
    return None if array is None else _exact(array)


def _convolved(maps: Maps, module: Any, weight: Any, bias: Any) -> Maps:
    height, width, side = len(maps[0]), len(maps[0][0]), len(weight[0][0])
    edge, step = module.padding, module.stride

    def value(output: int, top: int, left: int) -> Any:
        within = (
            (down, right)
            for down, right in product(range(side), repeat=2)
            if 0 <= top + down < height and 0 <= left + right < width
        )
        return bias[output] + sum(
            weight[output][channel][down][right] * maps[channel][top + down][left + right]
            for down, right in within
            for channel in range(len(maps))
        )

    return [
        [
            [value(output, top, left) for left in range(-edge, width + edge - side + 1, step)]
            for top in range(-edge, height + edge - side + 1, step)
        ]
        for output in range(len(weight))
    ]


def _exact(array: Any) -> Any:
    return [_exact(part) for part in array] if array.ndim else mpmath.mpf(float(array))


def _rectified(maps: Maps, module: Any, **_: Any) -> Maps:
    del module
    return [[[max(pixel, mpmath.mpf(0)) for pixel in row] for row in channel] for channel in maps]


STEPS: Mapping[str, Any] = {
    "Convolution": _convolved,
    "Rectifier": _rectified,
}
