"""Sums of floating-point numbers without rounding, so that no order of adding changes a bit.

Every finite float64 is a multiple of 2^-1074, so a sum is one large integer.  Python's integers add
exactly and divide with one correct rounding; NumPy first does the many small additions: mantissas
are split into halves of 26 and 27 bits, and 2^26 halves of one exponent add up exactly in a
float64.

Reference: U. Kulisch, Computer Arithmetic and Validity, 2008, section 8.3 (a long accumulator).
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lossd.checkpoints import Checkpoint, never_stop

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Split = tuple[Floats, Integers]  # mantissas below 1 and powers of two, as frexp gives them

# frexp writes the smallest number as 0.5 * 2^-1073, and 53 bits of it end at 2^-1126.
UNIT_EXPONENT = 3 * 1127  # of products of three
UNIT = 1 << UNIT_EXPONENT
# How many are added at once, at most 2^26: temporaries stay in a processor's cache, unless many
# groups have to share the work that there is for each.
_SMALL_CHUNK, _LARGE_CHUNK, _MEMBERS = 1 << 15, 1 << 17, 64
_HALF = float(1 << 27)


def exact_sums(
    *factors: Split,
    groups: Integers | None = None,
    columns: int = 1,
    checkpoint: Checkpoint = never_stop,
) -> dict[int, int]:
    """Adds products of up to three finite factors, group by group.

    Without ``groups`` each of so many ``columns`` is one, of factors that lie row by row.
    ``checkpoint`` is called between chunks: numbers of many groups and sizes take some
    microseconds each.

    Returns:
        For each group that occurs (0 without groups) the sum in units of 2^-3381.
    """
    totals: dict[int, int] = {}
    group_count = columns if groups is None else 1 + int(groups.max(initial=0))
    step = min(max(_SMALL_CHUNK, _MEMBERS * group_count), _LARGE_CHUNK)
    count = len(factors[0][0])
    # For a chunk that begins anywhere within a row.
    cycle = np.tile(np.arange(columns), 1 + -(-min(step, count) // columns))
    for start in range(0, count, step):
        part = slice(start, start + step)
        chunk = [(mantissas[part], exponents[part]) for mantissas, exponents in factors]
        own = None if groups is None else groups[part]
        if columns > 1:
            own = cycle[start % columns :][: len(chunk[0][0])]
        for term in products(*chunk):
            checkpoint()
            _add_chunk(totals, term, own)
    return totals


def products(*factors: Split) -> Iterator[Split]:
    """Yields numbers that add up to the products of the factors without any error."""
    *others, (mantissas, exponents) = factors
    if not others:
        yield mantissas, exponents
        return
    for value, before in products(*others):
        for part in _product(value, mantissas):
            found, more = np.frexp(part)
            more += before
            more += exponents
            yield found, more


def difference(left: Floats, right: Floats) -> Split:
    """Returns the differences, rounded once, which may be beyond the largest float64."""
    with np.errstate(over="ignore"):
        found = left - right
    mantissas, exponents = np.frexp(found)
    far = np.isinf(found)
    if far.any():
        mantissas[far], exponents[far] = np.frexp(left[far] / 2 - right[far] / 2)
        exponents[far] += 1
    return mantissas, exponents


def _add_chunk(totals: dict[int, int], term: Split, groups: Integers | None) -> None:
    mantissas, exponents = term
    mantissas = np.ldexp(mantissas, 53)  # exact integers
    high = np.floor(mantissas / _HALF)
    low = mantissas - high * _HALF
    lowest = int(exponents.min())
    span = int(exponents.max()) - lowest + 1
    keys = (exponents - lowest).astype(np.int64)
    if groups is not None:
        keys += groups * span
    names, keys = _compressed(keys)
    highs = np.bincount(keys, high, len(names))
    lows = np.bincount(keys, low, len(names))
    used = np.flatnonzero((highs != 0) | (lows != 0))
    for key, upper, lower in zip(
        names[used].tolist(), highs[used].tolist(), lows[used].tolist(), strict=True
    ):
        group, exponent = divmod(key, span)
        shift = exponent + lowest - 53 + UNIT_EXPONENT
        total = ((int(upper) << 27) + int(lower)) << shift
        totals[group] = totals.get(group, 0) + total


def _compressed(keys: Integers) -> tuple[Integers, Integers]:
    """Returns a compact table of keys, and the keys as indices of it."""
    most = int(keys.max())
    if most < 4 * len(keys) + 65536:
        return np.arange(most + 1), keys
    names, indices = np.unique(keys, return_inverse=True)
    return names, indices


def _product(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Returns products of mantissas as two numbers that add up to them: rounded, and the error.

    Reference: T. J. Dekker, A floating-point technique for extending the available precision, 1971.
    """
    rounded = left * right
    left_high, left_low = _halves(left)
    right_high, right_low = _halves(right)
    lost = left_high * right_high - rounded
    lost += left_high * right_low
    lost += left_low * right_high
    lost += left_low * right_low
    return rounded, lost


def _halves(values: Floats) -> tuple[Floats, Floats]:
    scaled = values * (_HALF + 1)
    high = scaled - (scaled - values)
    return high, values - high


def ratio(numerator: int, denominator: int) -> float:
    """Returns the float64 nearest to a quotient; infinite where it overflows."""
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if (numerator > 0) == (denominator > 0) else -math.inf


def root_of_ratio(numerator: int, denominator: int) -> float:
    """Returns the square root of a quotient of at least 0; infinite where it overflows."""
    # 130 bits of the quotient make 65 of the root.
    shift = (130 + denominator.bit_length() - numerator.bit_length()) // 2
    up, down = max(0, 2 * shift), max(0, -2 * shift)
    root = math.isqrt((numerator << up) // (denominator << down))
    try:
        return math.ldexp(root, -shift)
    except OverflowError:
        return math.inf


def split(number: int) -> tuple[float, int]:
    """Returns a number of units as a mantissa, rounded once, and a power of two."""
    bits = number.bit_length()
    return number / (1 << bits), bits - UNIT_EXPONENT


def signed_bytes(value: int) -> bytes:
    """Returns an integer in two's complement, little endian."""
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def from_signed_bytes(data: bytes) -> int:
    """Returns the integer of ``signed_bytes``."""
    return int.from_bytes(data, "little", signed=True)
