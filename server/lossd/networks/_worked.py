"""Networks that can be computed on paper, for the worked examples that losses declare."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from lossd.networks._modules import Convolution, Rectifier
from lossd.networks._network import Heads, Network


def worked_networks() -> Mapping[str, Network]:
    """Returns networks of a 1x1 convolution and a rectifier each, by name.

    Their convolutions turn a pixel x into (x, -x), three equal channels into the same, and x into
    (1000 x, 4000).
    """
    found = (
        _network("worked", [[1], [-1]], [0, 0]),
        _network("worked_in_colour", [[0.5, 0.25, 0.25], [-0.5, -0.25, -0.25]], [0, 0]),
        _network("worked_with_heads", [[1000], [0]], [0, 4000]),
    )
    return MappingProxyType({network.name: network for network in found})


def _network(name: str, weight: list[list[float]], bias: list[float]) -> Network:
    channels = len(weight[0])
    layers = ("linear", "rectified")
    return Network(
        name=name,
        architecture="sequential",
        modules=(Convolution(layers[0]), Rectifier(layers[1])),
        weights={
            "features.0.weight": np.array(weight, np.float32)[:, :, None, None],
            "features.0.bias": np.array(bias, np.float32),
        },
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        heads=Heads(layers, (np.array([1, 2], np.float32), np.array([3, 1], np.float32))),
    )
