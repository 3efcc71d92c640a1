"""Tallies: arrays of exact sums, which add up in any order, in any grouping, to the bit."""

import functools
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

import numpy as np

from lossd.checkpoints import Checkpoint, never_stop
from lossd.evaluation._exact import (
    UNIT,
    UNIT_EXPONENT,
    Floats,
    Integers,
    Split,
    exact_sums,
    ratio,
    split,
)
from lossd.evaluation._wide import Wide

Thing = TypeVar("Thing")

SUM_BYTES = 600  # of an exact sum, and its place in a dictionary

_SUMS_A_CHECK = 1 << 12  # between two checks whether to stop: some 10 ms

MAX_SUM = 1 << 60  # for counts; two of them still add up within 64 bits


class StateError(ValueError):
    """States that do not fit together, or one that no data can produce."""


@dataclass(frozen=True, slots=True)
class Tally:
    """An array of exact sums: integers, plus multiples of 2^-3381 where weights made fractions.

    ``fractions`` holds them by flat index.
    """

    integers: Integers
    fractions: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def counts(
        cls,
        groups: Integers | None,
        shape: tuple[int, ...],
        weights: Floats | None,
        checkpoint: Checkpoint = never_stop,
    ) -> "Tally":
        """Returns the counts, or sums of weights, of the members of groups, as flat indices."""
        size = int(np.prod(shape, dtype=np.int64))
        if weights is not None:
            found = exact_sums(np.frexp(weights), groups=groups, checkpoint=checkpoint)
            return cls(np.zeros(shape, np.int64), found)
        if groups is None:
            raise TypeError("groups must be given where there are no weights")
        return cls(np.bincount(groups, minlength=size).reshape(shape).astype(np.int64))

    @classmethod
    def number(cls, value: int) -> "Tally":
        """Returns a tally of a single integer."""
        return cls(np.array([value], np.int64))

    @classmethod
    def weight(
        cls, count: int, weights: Floats | None, checkpoint: Checkpoint = never_stop
    ) -> "Tally":
        """Returns what so many examples weigh together."""
        return cls.number(count) if weights is None else cls.sums(weights, checkpoint=checkpoint)

    @classmethod
    def sums(
        cls,
        *factors: Floats | Split,
        weights: Floats | None = None,
        shape: tuple[int] = (1,),
        groups: Integers | None = None,
        checkpoint: Checkpoint = never_stop,
    ) -> "Tally":
        """Adds up products of up to three finite factors, the weight of their row one of them.

        All are added up, or those of each group, or each column where the shape is of columns.
        """
        pairs = [one if isinstance(one, tuple) else np.frexp(one) for one in factors]
        if weights is not None:
            first, _ = pairs[0]
            mantissas, exponents = (
                np.broadcast_to(part.reshape(-1, *[1] * (first.ndim - 1)), first.shape)
                for part in np.frexp(weights)
            )
            pairs.append((mantissas, exponents))
        flat = [(mantissas.reshape(-1), exponents.reshape(-1)) for mantissas, exponents in pairs]
        (size,) = shape
        if groups is None and size > 1:
            found = exact_sums(*flat, columns=size, checkpoint=checkpoint)
        else:
            found = exact_sums(*flat, groups=groups, checkpoint=checkpoint)
        return cls(np.zeros(shape, np.int64), found)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.integers.shape

    def plus(self, other: "Tally", checkpoint: Checkpoint = never_stop) -> "Tally":
        """Returns the sums of both.

        Raises:
            StateError: if they have different axes, or sums become too large.
        """
        if self.integers.ndim != other.integers.ndim:
            raise StateError(
                f"states must have tallies of one shape, got {self.shape} and {other.shape}"
            )
        shape = tuple(map(max, zip(self.shape, other.shape, strict=True)))
        left, right = self.grown(shape), other.grown(shape)
        fractions = dict(left.fractions)
        for index, units in checked(right.fractions.items(), checkpoint):
            fractions[index] = fractions.get(index, 0) + units
        integers = left.integers + right.integers
        check_sum("tallies", int(integers.max()))
        return Tally(integers, fractions)

    def grown(self, shape: tuple[int, ...]) -> "Tally":
        """Returns it extended by zeros, for more classes than this part of the data had."""
        if shape == self.shape:
            return self
        grown = np.zeros(shape, np.int64)
        grown[tuple(map(slice, self.shape))] = self.integers
        keys = np.array(list(self.fractions), np.int64)
        indices = (
            np.ravel_multi_index(np.unravel_index(keys, self.shape), shape) if len(keys) else ()
        )
        return Tally(grown, dict(zip(map(int, indices), self.fractions.values(), strict=True)))

    def exact(self, index: int = 0) -> Fraction:
        """Returns one of the sums, without rounding; 0 where there is none."""
        whole = int(self.integers.flat[index]) if index < self.integers.size else 0
        units = self.fractions.get(index, 0)
        return Fraction(whole) + Fraction(units, UNIT) if units else Fraction(whole)

    def scaled(self, size: int, power: int, checkpoint: Checkpoint = never_stop) -> list[int]:
        """Returns ``size`` sums times two to a power that makes them integers."""
        numbers = checked(self.integers.reshape(-1).tolist(), checkpoint)
        found = [number << power for number in numbers]
        found += [0] * (size - len(found))
        for index, units in checked(self.fractions.items(), checkpoint):
            found[index] += units >> (UNIT_EXPONENT - power)
        return found

    def pooled(self, checkpoint: Checkpoint = never_stop) -> "Tally":
        """Returns the sum of all sums."""
        whole = sum(self.integers.reshape(-1).tolist())
        units = sum(checked(self.fractions.values(), checkpoint))
        return Tally(np.zeros(1, np.int64), {0: whole * UNIT + units})

    def floats(self, checkpoint: Checkpoint = never_stop) -> Floats:
        """Returns all sums, each rounded once; infinite where it overflows."""
        found = self.integers.astype(np.float64)
        for index, units in self._sums_with_fractions(checkpoint):
            found.flat[index] = ratio(units, UNIT)
        return found

    def wide(self, checkpoint: Checkpoint = never_stop) -> Wide:
        """Returns all sums, each rounded once, whatever their range."""
        mantissas, exponents = np.frexp(self.integers.astype(np.float64))
        for index, units in self._sums_with_fractions(checkpoint):
            mantissas.flat[index], exponents.flat[index] = split(units)
        return Wide.scaled(mantissas, exponents)

    def _sums_with_fractions(self, checkpoint: Checkpoint) -> Iterator[tuple[int, int]]:
        for index, units in checked(self.fractions.items(), checkpoint):
            yield index, int(self.integers.flat[index]) * UNIT + units


def aligned(*tallies: Tally, checkpoint: Checkpoint = never_stop) -> list[list[int]]:
    """Returns the sums of several tallies as integers of one length and of one unit."""
    size = max(tally.integers.size for tally in tallies)
    fractions = itertools.chain.from_iterable(tally.fractions.values() for tally in tallies)
    bits = functools.reduce(operator.or_, checked(fractions, checkpoint), UNIT)
    shift = (bits & -bits).bit_length() - 1  # a large unit makes short numbers
    return [tally.scaled(size, UNIT_EXPONENT - shift, checkpoint) for tally in tallies]


def checked(things: Iterable[Thing], checkpoint: Checkpoint) -> Iterator[Thing]:
    """Yields all of them, and calls ``checkpoint`` now and then: each may be a long integer."""
    for number, thing in enumerate(things):
        if number % _SUMS_A_CHECK == 0:
            checkpoint()
        yield thing


NO_TALLY = Tally(np.zeros(1, np.int64))


def check_sum(thing: str, total: int) -> None:
    """Checks that a sum of states can still be added to another.

    Raises:
        StateError: if not, naming the thing.
    """
    if total > MAX_SUM:
        raise StateError(f"{thing} of states must add up to at most {MAX_SUM}, got {total}")
