"""Numbers, arrays and lists of examples of several terms, put together.

Of arrays arrays are made, also of those without axes, of which NumPy's operators make numbers: they
are written to later on.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends import round_into
from lossd.batch import Array
from lossd.engine import ExampleStatuses, Result
from lossd.losses import Status
from lossd.reduction import Flags


def in_type(array: Array, dtype: np.dtype[Any]) -> Array:
    """Returns an array rounded to a type; itself if it has that."""
    if array.dtype == dtype:
        return array
    out = np.empty(array.shape, dtype)
    with np.errstate(all="ignore"):
        round_into(array, out)
    return out


def weighed(weight: float, number: float) -> float:
    """Returns weight times number, but 0 where the weight is 0, since 0 times infinity is not 0."""
    return weight * number if weight else 0.0


def weighed_all(weight: float, array: Array) -> Array:
    """Returns the same of each number of an array, in an array of its own of the same type."""
    with np.errstate(all="ignore"):
        own = array.dtype.type(weight)  # in which a small weight may be 0
        if not own:
            return np.zeros_like(array)
        if not np.finfo(own.dtype).tiny <= abs(own) < np.inf:
            # A large weight is infinite in the type of the values, and a subnormal one is rounded.
            return np.asarray((weight * array.astype(np.float64)).astype(array.dtype))
        return np.asarray(array * own)


def not_finite(array: Array) -> Flags:
    """Returns which numbers of an array are not finite."""
    return np.asarray(~np.isfinite(array))


def union(several: Iterable[npt.NDArray[np.int64]], more: Array) -> npt.NDArray[np.int64]:
    """Returns all examples of several lists and one more, each once and in order."""
    parts = [*several, more]
    among = np.zeros(_count(parts), np.bool_)
    for part in parts:
        among[part] = True
    return among.nonzero()[0]


def merged_statuses(results: Sequence[Result], nonfinite: npt.NDArray[np.int64]) -> ExampleStatuses:
    """Merges the statuses of the terms; the first term with a status for an example decides it.

    Examples that are ``nonfinite`` in the total alone have that status.  There may be millions.
    """
    several = [result.statuses for result in results]
    numbers = np.zeros(_count([nonfinite, *(each.indices for each in several)]), np.uint8)
    numbers[nonfinite] = Status.NONFINITE
    for each in reversed(several):
        numbers[each.indices] = each.numbers
    found = numbers.nonzero()[0]
    return ExampleStatuses(found, numbers[found])


def _count(several: Iterable[npt.NDArray[np.int64]]) -> int:
    """Returns how many examples there are at least, from lists of some of them in order."""
    return 1 + max((int(each[-1]) for each in several if len(each)), default=-1)


def together(before: list[Array] | None, arrays: list[Array]) -> list[Array]:
    """Adds the gradients with respect to one input that a term takes for several of its own."""
    if before is None:
        return arrays
    with np.errstate(all="ignore"):  # in float64, since the sum may be beyond a narrower type
        pairs = zip(before, arrays, strict=True)
        return [np.asarray(np.add(one, other, dtype=np.float64)) for one, other in pairs]


def norm(array: Array) -> float:
    """Returns the Euclidean length, without overflow."""
    with np.errstate(all="ignore"):
        largest = float(np.abs(array).max(initial=0))
        if not 0 < largest < math.inf:
            return largest
        scaled = (array / largest).astype(np.float64).reshape(-1)
        return largest * math.sqrt(float((scaled * scaled).sum()))


def common(numbers: Sequence[float]) -> float:
    """Returns the number that all agree on; 0 where they do not."""
    return numbers[0] if all(number == numbers[0] for number in numbers) else 0
