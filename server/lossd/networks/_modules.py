"""The modules of networks: each computes forward, and returns a function for the backward pass.

Modules hold sizes but no weights; weights are passed by their names within a module, ``weight`` and
``bias`` for a convolution.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lossd.networks._convolution import Device, Windows, convolve, spread
from lossd.schema import Array

Size = tuple[int, int, int]  # channels, height, width
Weights = Mapping[str, Array]
Way = Callable[[Array], Array]  # from the output's gradient to the input's


@dataclass(frozen=True, slots=True)
class Module:
    """A step of a network; its name also names its output."""

    name: str
    parts: ClassVar[Sequence[str]] = ()  # the names of its convolutions, whose weights it needs

    def size(self, given: Size, weights: Weights) -> Size:
        """Returns the size of its output for that of an input; 0 or less for none."""
        raise NotImplementedError

    def channels(self, given: int, weights: Weights) -> int:
        """Returns the number of output channels for a number of input channels.

        Raises:
            ValueError: if its weights do not take that many.
        """
        del weights
        return given

    def forward(self, on: Device, image: Array, weights: Weights) -> tuple[Array, Way]:
        """Returns its output for an image, and the function for the backward pass."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Convolution(Module):
    """A convolution with a square kernel, whose size and channels are those of its weights."""

    stride: int = 1
    padding: int = 0
    parts: ClassVar[Sequence[str]] = ("",)

    def channels(self, given: int, weights: Weights) -> int:
        """Returns the number of output channels of its weights."""
        return _taken(given, weights, "")

    def size(self, given: Size, weights: Weights) -> Size:
        """See ``Module.size``."""
        at = self._windows(given, weights)
        return len(weights["weight"]), at.rows, at.columns

    def _windows(self, given: Size, weights: Weights) -> Windows:
        kernel = weights["weight"].shape[-1]
        return Windows(*given, kernel=kernel, stride=self.stride, padding=self.padding)

    def forward(self, on: Device, image: Array, weights: Weights) -> tuple[Array, Way]:
        """See ``Module.forward``."""
        weight, at = weights["weight"], self._windows(image.shape, weights)
        found = convolve(on, image, weight, weights["bias"], at)
        return found, lambda derivatives: spread(on, derivatives, weight, at)


@dataclass(frozen=True, slots=True)
class Rectifier(Module):
    """max(x, 0), with the subgradient 0 at 0."""

    def size(self, given: Size, weights: Weights) -> Size:
        """See ``Module.size``."""
        del weights
        return given

    def forward(self, on: Device, image: Array, weights: Weights) -> tuple[Array, Way]:
        """See ``Module.forward``."""
        del weights
        return rectified(on.xp, image)


def rectified(xp: Any, image: Array) -> tuple[Array, Way]:
    """Returns max(x, 0), and the function for the backward pass."""
    found = xp.maximum(image, 0)
    return found, lambda derivatives: derivatives * (found > 0)


@dataclass(frozen=True, slots=True)
class _Pool(Module):
    """A pool over square windows."""

    kernel: int = 2
    stride: int = 2

    def size(self, given: Size, weights: Weights) -> Size:
        """See ``Module.size``."""
        del weights
        channels, height, width = given
        return channels, self._count(height), self._count(width)

    def _count(self, side: int) -> int:
        """Returns the number of windows along a side."""
        return (side - self.kernel) // self.stride + 1

    def _offsets(self, size: Size) -> list[tuple[slice, slice]]:
        """Returns for each position in the window, row by row, its elements in all windows."""
        _, rows, columns = size
        return [
            (self._range(down, rows), self._range(right, columns))
            for down in range(self.kernel)
            for right in range(self.kernel)
        ]

    def _range(self, start: int, count: int) -> slice:
        return slice(start, start + (count - 1) * self.stride + 1, self.stride)


@dataclass(frozen=True, slots=True)
class MaxPool(_Pool):
    """The largest number of each window; of equals the first one has the gradient.

    With ``ceil`` the last windows may go beyond the image, as long as they begin in it.
    """

    ceil: bool = False

    def _count(self, side: int) -> int:
        if not self.ceil:
            return _Pool._count(self, side)  # noqa: SLF001 - its own; slots leave no bare super()
        count = -((self.kernel - side) // self.stride) + 1
        return count - 1 if (count - 1) * self.stride >= side else count

    def forward(self, on: Device, image: Array, weights: Weights) -> tuple[Array, Way]:
        """See ``Module.forward``."""
        xp, size = on.xp, self.size(image.shape, weights)
        offsets, whole = self._offsets(size), self._filled(xp, image, size)
        found = whole[:, *offsets[0]].copy()
        for offset in offsets[1:]:
            xp.maximum(found, whole[:, *offset], out=found)

        def back(derivatives: Array) -> Array:
            gradient = xp.zeros(whole.shape, derivatives.dtype)
            is_free = xp.ones(found.shape, bool)
            for offset in offsets:
                is_first = is_free & (whole[:, *offset] == found)
                is_free &= ~is_first
                gradient[:, *offset] += derivatives * is_first
            return gradient[:, : image.shape[1], : image.shape[2]]

        return found, back

    def _filled(self, xp: Any, image: Array, size: Size) -> Array:
        """Returns the image, with -inf where windows go beyond it."""
        channels, *sides = image.shape
        needed = [(count - 1) * self.stride + self.kernel for count in size[1:]]
        if all(need <= side for need, side in zip(needed, sides, strict=True)):
            return image
        height, width = (max(pair) for pair in zip(needed, sides, strict=True))
        whole = xp.full((channels, height, width), -xp.inf, image.dtype)
        whole[:, : sides[0], : sides[1]] = image
        return whole


@dataclass(frozen=True, slots=True)
class AveragePool(_Pool):
    """The mean of each window."""

    def forward(self, on: Device, image: Array, weights: Weights) -> tuple[Array, Way]:
        """See ``Module.forward``."""
        xp, shape, size = on.xp, image.shape, self.size(image.shape, weights)
        offsets, count = self._offsets(size), self.kernel**2
        found = xp.zeros(size, image.dtype)
        for offset in offsets:
            found += image[:, *offset]
        found /= count

        def back(derivatives: Array) -> Array:
            gradient = xp.zeros(shape, derivatives.dtype)
            for offset in offsets:
                gradient[:, *offset] += derivatives / count
            return gradient

        return found, back


@dataclass(frozen=True, slots=True)
class Fire(Module):
    """A 1x1 convolution to few channels, then a 1x1 and a 3x3 one to many, side by side.

    Reference: F. Iandola et al., SqueezeNet, 2016, section 3.2.
    """

    parts: ClassVar[Sequence[str]] = ("squeeze.", "expand1x1.", "expand3x3.")

    def channels(self, given: int, weights: Weights) -> int:
        """Returns the output channels of both convolutions."""
        few = _taken(given, weights, "squeeze.")
        return _taken(few, weights, "expand1x1.") + _taken(few, weights, "expand3x3.")

    def size(self, given: Size, weights: Weights) -> Size:
        """See ``Module.size``."""
        _, height, width = given
        return self.channels(given[0], weights), height, width

    def forward(self, on: Device, image: Array, weights: Weights) -> tuple[Array, Way]:
        """See ``Module.forward``."""
        few, back_from_few = _convolved(on, image, weights, "squeeze.")
        left, back_from_left = _convolved(on, few, weights, "expand1x1.")
        right, back_from_right = _convolved(on, few, weights, "expand3x3.", padding=1)
        edge = len(left)

        def back(derivatives: Array) -> Array:
            return back_from_few(
                back_from_left(derivatives[:edge]) + back_from_right(derivatives[edge:])
            )

        return on.xp.concatenate([left, right]), back


def _convolved(
    on: Device, image: Array, weights: Weights, part: str, padding: int = 0
) -> tuple[Array, Way]:
    """Returns the rectified convolution of a part, and the function for the backward pass."""
    own = {name: weights[part + name] for name in ("weight", "bias")}
    linear, back = Convolution(part, padding=padding).forward(on, image, own)
    found, back_from_rectified = rectified(on.xp, linear)
    return found, lambda derivatives: back(back_from_rectified(derivatives))


def _taken(given: int, weights: Weights, part: str) -> int:
    """Returns the number of output channels of one convolution for a number of input channels."""
    weight, bias = weights[f"{part}weight"], weights[f"{part}bias"]
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or weight.shape[1] != given:
        raise ValueError(
            f"{part}weight must have the shape [outputs, {given}, kernel, kernel], "
            f"got {list(weight.shape)}"
        )
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"{part}bias must have the shape [{len(weight)}], got {list(bias.shape)}")
    return len(weight)
