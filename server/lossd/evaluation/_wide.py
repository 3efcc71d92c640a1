"""Numbers of a range far beyond that of float64, so that no sum or quotient leaves it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Exponents = npt.NDArray[np.int32]

_EXPONENT_OF_0 = -(1 << 20)  # below all others, so that a 0 sets the scale of no sum


@dataclass(frozen=True, slots=True)
class Wide:
    """Numbers of at least 0, each a mantissa in [0.5, 1), or 0, times a power of two."""

    mantissas: Floats
    exponents: Exponents

    @classmethod
    def scaled(cls, values: Floats, exponents: Exponents) -> "Wide":
        """Returns values times powers of two."""
        mantissas, total = np.frexp(values)
        total = np.asarray(total + exponents, np.int32)
        return cls(mantissas, np.where(mantissas == 0, np.int32(_EXPONENT_OF_0), total))

    @property
    def is_zero(self) -> npt.NDArray[np.bool_]:
        """Whether each is 0."""
        return np.asarray(self.mantissas == 0)

    def floats(self, top: Exponents | int) -> Floats:
        """Returns each divided by two to the power of ``top``."""
        with np.errstate(over="ignore", under="ignore"):
            found: Floats = np.ldexp(self.mantissas, self.exponents - top)
        return found

    def shares(self) -> Floats:
        """Returns them divided by a power of two that makes the largest less than 1."""
        return self.floats(int(self.exponents.max(initial=_EXPONENT_OF_0)))

    def __add__(self, other: "Wide") -> "Wide":
        top = np.maximum(self.exponents, other.exponents)
        return Wide.scaled(self.floats(top) + other.floats(top), top)

    def times(self, factor: float) -> "Wide":
        """Returns them times a number."""
        return Wide.scaled(self.mantissas * factor, self.exponents)

    def __truediv__(self, other: "Wide") -> Floats:
        """Returns the quotients in float64; NaN for 0 / 0."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            found: Floats = self.mantissas / other.mantissas
            np.ldexp(found, self.exponents - other.exponents, out=found)
        return found

    def sum(self, axis: int | tuple[int, ...]) -> "Wide":
        """Returns the sums along an axis, which stays with a length of 1."""
        top = self.exponents.max(axis=axis, keepdims=True)
        return Wide.scaled(self.floats(top).sum(axis=axis, keepdims=True), top)

    def of(self, chosen: npt.NDArray[np.bool_]) -> "Wide":
        """Returns those that are chosen."""
        return Wide(self.mantissas[chosen], self.exponents[chosen])

    def reshape(self, *shape: int) -> "Wide":
        """Returns them in another shape."""
        return Wide(self.mantissas.reshape(shape), self.exponents.reshape(shape))

    def padded(self, size: int) -> "Wide":
        """Returns them, on one axis, followed by zeros."""
        more = (0, size - len(self.mantissas))
        exponents = np.pad(self.exponents, more, constant_values=_EXPONENT_OF_0)
        return Wide(np.pad(self.mantissas, more), exponents)
