"""How a job compares images: by which network and layers, and what its pixels mean."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd.networks._modules import Size
from lossd.networks._network import Activations, DeviceNetwork, Network
from lossd.schema import Array

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Networks:
    """The operator's networks, and the bytes that one image may take inside one of them."""

    by_name: Mapping[str, Network] = field(default_factory=lambda: MappingProxyType({}))
    max_bytes: int = 2048 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class ImagePipeline:
    """A network, the positions of the layers that are compared, and the range of pixels.

    With ``has_heads`` they are the layers of the network's linear heads.  With ``replicates`` one
    channel is repeated for all that the network takes.
    """

    network: Network
    taps: tuple[int, ...]
    has_heads: bool
    low: float
    high: float
    replicates: bool

    @property
    def last(self) -> int:
        """How many modules an image goes through."""
        return max(self.taps) + 1

    def sizes(self, height: int, width: int) -> list[Size]:
        """Returns the sizes of the outputs of these modules for an image."""
        return self.network.sizes((self.network.channels, height, width), self.last)

    def bytes_inside(self, height: int, width: int, dtype: np.dtype[Any]) -> int:
        """Returns about how many bytes an image takes, with its target and the backward pass.

        These are the outputs of every module for both images, the maps among them; four more of
        each map, for the loss and its gradients, and of the largest output, for the copies of one
        module.
        """
        own = self.network.channels * height * width
        counts = [own, *(math.prod(size) for size in self.sizes(height, width))]
        maps = sum(counts[index + 1] for index in self.taps)
        return dtype.itemsize * (2 * sum(counts) + 4 * maps + 4 * max(counts))

    def forward(
        self, on_device: DeviceNetwork, image: Array, *, with_way: bool
    ) -> "PixelActivations":
        """Runs the network forward over an image (channels, height, width)."""
        xp, dtype = on_device.on.xp, image.dtype
        std, mean = (np.asarray(x)[:, None, None] for x in (self.network.std, self.network.mean))
        unit = np.float64(1) / (self.high - self.low)
        factor = xp.asarray((unit / std).astype(dtype))
        offset = xp.asarray(((-self.low * unit - mean) / std).astype(dtype))
        activations = on_device.forward(image * factor + offset, self.taps, with_way=with_way)
        return PixelActivations(activations, factor, self.replicates)


@dataclass(frozen=True, slots=True)
class PixelActivations:
    """The forward pass of an image as the caller gave it."""

    activations: Activations
    factor: Array
    replicates: bool

    def gradient(self, derivatives: list[Array]) -> Array:
        """Returns the gradient with respect to the pixels from those of the maps."""
        found = self.activations.gradient(derivatives) * self.factor
        return found.sum(axis=0, keepdims=True) if self.replicates else found
