"""Networks as they are loaded, and as a device computes with them."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.networks._convolution import Device
from lossd.networks._modules import Module, Size, Way, Weights
from lossd.schema import Array

Host = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Heads:
    """The linear heads of LPIPS: for each of these layers one number for each channel."""

    layers: tuple[str, ...]
    weights: tuple[Host, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A trunk of modules with its weights, which are named as torchvision names them.

    ``mean`` and ``std`` are those of its input's channels, for pixels of 0 to 1.
    """

    name: str
    architecture: str
    modules: tuple[Module, ...]
    weights: Mapping[str, Host]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    heads: Heads | None = None
    sha256: str = ""

    def __post_init__(self) -> None:
        """Checks that the modules fit together.

        Raises:
            ValueError: for weights that are missing, do not fit, or are not finite.
        """
        channels = self.channels
        counts = {}
        for index, module in enumerate(self.modules):
            own = weights_of(self.weights, index, module)
            try:
                channels = module.channels(channels, own)
            except ValueError as error:
                raise ValueError(f"features.{index}.{error}") from error
            counts[module.name] = channels
        for key, array in self.weights.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{key} must be finite, got NaN or infinity")
        if self.heads is not None:
            _check_heads(self.heads, counts)

    @property
    def channels(self) -> int:
        """Channels of the images that it takes."""
        return len(self.mean)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its modules, in order."""
        return tuple(module.name for module in self.modules)

    def sizes(self, image: Size, count: int) -> list[Size]:
        """Returns the sizes of the outputs of its first modules; 0 or less for none."""
        found = [image]
        for index, module in enumerate(self.modules[:count]):
            found.append(module.size(found[-1], weights_of(self.weights, index, module)))
        return found[1:]


def weights_of(weights: Mapping[str, Array], index: int, module: Module) -> Weights:
    """Returns the weights of one module, by their names within it.

    Raises:
        ValueError: for those that are missing.
    """
    found = {}
    for part in module.parts:
        for name in ("weight", "bias"):
            key = f"features.{index}.{part}{name}"
            if key not in weights:
                raise ValueError(f"{key} must be there for {module.name}, got nothing")
            found[part + name] = weights[key]
    return found


def _check_heads(heads: Heads, channels: Mapping[str, int]) -> None:
    for index, (layer, weights) in enumerate(zip(heads.layers, heads.weights, strict=True)):
        if layer not in channels:
            raise ValueError(f"lpips.layers must be among {', '.join(channels)}, got {layer}")
        if weights.shape != (channels[layer],):
            raise ValueError(
                f"lin{index} must have {channels[layer]} numbers for {layer}, got {weights.size}"
            )
        if not np.isfinite(weights).all():
            raise ValueError(f"lin{index} must be finite, got NaN or infinity")


@dataclass(frozen=True, slots=True)
class Activations:
    """The forward pass of an image: the maps of some layers, in the order asked for."""

    maps: tuple[Array, ...]
    _taps: tuple[int, ...]
    _ways: Sequence[Way]

    def gradient(self, derivatives: Sequence[Array]) -> Array:
        """Returns the gradient with respect to the image from those of the maps, once only."""
        by_index: dict[int, Array] = {}
        for index, derivative in zip(self._taps, derivatives, strict=True):
            by_index[index] = by_index[index] + derivative if index in by_index else derivative
        found: Any = None
        for index in reversed(range(len(self._ways))):
            if index in by_index:
                found = by_index[index] if found is None else found + by_index[index]
            found = self._ways[index](found)
        return found


@dataclass(frozen=True, slots=True)
class DeviceNetwork:
    """A network in one precision, in the memory of a backend."""

    modules: tuple[Module, ...]
    weights: Mapping[str, Array]
    heads: tuple[Array, ...]
    on: Device

    def forward(self, image: Array, taps: tuple[int, ...], *, with_way: bool) -> Activations:
        """Runs forward over a normalised image; ``taps`` are the positions of the layers wanted."""
        maps: dict[int, Array] = {}
        ways: list[Way] = []
        for index in range(max(taps) + 1):
            module = self.modules[index]
            image, way = module.forward(self.on, image, weights_of(self.weights, index, module))
            if index in taps:
                maps[index] = image
            if with_way:
                ways.append(way)
        return Activations(tuple(maps[index] for index in taps), taps, ways)


class DeviceNetworks:
    """The networks in the memory of one backend: copied there once for each precision.

    ``send`` brings an array to the device, in a type.
    """

    def __init__(self, on: Device, send: Callable[[Host, np.dtype[Any]], Array]) -> None:
        self._on = on
        self._send = send
        self._lock = threading.Lock()
        self._on_device: dict[tuple[Network, np.dtype[Any]], DeviceNetwork] = {}

    def find(self, network: Network, dtype: np.dtype[Any]) -> DeviceNetwork:
        """Returns a network in a precision."""
        with self._lock:
            key = (network, dtype)
            if key not in self._on_device:
                self._on_device[key] = self._place(network, dtype)
            return self._on_device[key]

    def _place(self, network: Network, dtype: np.dtype[Any]) -> DeviceNetwork:
        heads = network.heads.weights if network.heads else ()
        sent = {key: self._send(array, dtype) for key, array in network.weights.items()}
        return DeviceNetwork(
            network.modules,
            MappingProxyType(sent),
            tuple(self._send(array, dtype) for array in heads),
            self._on,
        )

    def clear(self) -> None:
        """Frees all of them."""
        with self._lock:
            self._on_device.clear()
