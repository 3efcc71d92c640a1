"""The state of a metric: exact sums and kept rows of the data that it was given.

States add up: in any order, in any grouping, to the bit.
"""

import enum
import functools
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

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

Array = npt.NDArray[Any]
Table = Mapping[str, Array]
Thing = TypeVar("Thing")

SUM_BYTES = 600  # of an exact sum, and its place in a dictionary

_SUMS_A_CHECK = 1 << 12  # between two checks whether to stop: some 10 ms

MAX_SUM = 1 << 60  # for counts; two of them still add up within 64 bits


class StateError(ValueError):
    """States that do not fit together, or one that no data can produce."""


class ClassificationTask(enum.Enum):
    """The task: what is decided about an example."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"


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
        _check_sum("tallies", int(integers.max()))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of one metric.

    ``task`` and ``width`` (the number of classes, labels or outputs) follow from the inputs; None
    where they do not.  ``tables`` hold rows that cannot be summed: arrays of one length by the name
    of the column.  A column that is missing counts as all 1.
    """

    task: ClassificationTask | None = None
    width: int | None = None
    example_count: int = 0
    ignored_count: int = 0
    silent_count: int = 0
    nonfinite_count: int = 0
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it was given no example with weight."""
        return self.example_count == self.silent_count

    @property
    def nbytes(self) -> int:
        """About how much memory it holds."""
        kept = sum(column.nbytes for table in self.tables for column in table.values())
        return kept + sum(
            t.integers.nbytes + SUM_BYTES * len(t.fractions) for t in self.tallies.values()
        )

    @property
    def aligned_nbytes(self) -> int:
        """About how much memory its sums take as integers of one unit."""
        if not any(tally.fractions for tally in self.tallies.values()):
            return 0
        wholes = (np.count_nonzero(tally.integers) for tally in self.tallies.values())
        return SUM_BYTES * int(sum(wholes))

    def tally(self, name: str) -> Tally:
        """Returns the tally of that name; a single 0 for an empty state."""
        return self.tallies.get(name, NO_TALLY)

    def total(self, name: str) -> Fraction:
        """Returns the first sum of a tally."""
        return self.tally(name).exact()

    def table(self) -> Table:
        """Returns all rows in one table; an empty one where none were kept."""
        return _concatenated(self.tables) if self.tables else {}


def _concatenated(tables: Sequence[Table]) -> Table:
    if len(tables) == 1:
        return tables[0]
    names = dict.fromkeys(name for table in tables for name in table)
    return {
        name: np.concatenate([table.get(name, np.ones(rows(table))) for table in tables])
        for name in names
    }


def rows(table: Table) -> int:
    """Returns how many rows a table has."""
    return len(next(iter(table.values())))


def _compacted(tables: Iterable[Table]) -> tuple[Table, ...]:
    """Merges tables until each is more than twice as long as the next, so that adding is cheap."""
    kept: list[Table] = []
    for table in tables:
        kept.append(table)
        while len(kept) > 1 and 2 * rows(kept[-1]) >= rows(kept[-2]):
            last = kept.pop()
            kept[-1] = _concatenated((kept[-1], last))
    return tuple(kept)


def merged(states: Iterable[State], checkpoint: Checkpoint = never_stop) -> State:
    """Adds states in pairs, so that a large one is not copied for each small one.

    ``checkpoint`` is called between some thousand exact sums.

    Raises:
        StateError: if tasks or numbers of classes differ, or sums become too large.
    """
    found = list(states)
    while len(found) > 1:
        pairs = zip(found[::2], found[1::2], strict=False)
        joined = [_joined(left, right, checkpoint) for left, right in pairs]
        found = [*joined, *found[len(found) & ~1 :]]
    return found[0] if found else State()


def _check_sum(thing: str, total: int) -> None:
    if total > MAX_SUM:
        raise StateError(f"{thing} of states must add up to at most {MAX_SUM}, got {total}")


def _check_columns(left: State, right: State) -> None:
    """Checks that the columns of two states have the same shape."""
    for mine, others in zip(left.tables[:1], right.tables[:1], strict=False):
        for name in mine.keys() & others.keys():
            shapes = mine[name].shape[1:], others[name].shape[1:]
            if shapes[0] != shapes[1]:
                raise StateError(
                    f"states must have {name} of one shape, got {shapes[0]} and {shapes[1]}"
                )


def _joined(left: State, right: State, checkpoint: Checkpoint) -> State:
    if not _spoke(right):  # the shapes of an empty state do not matter
        return left
    if not _spoke(left):
        return right
    _check_columns(left, right)
    _check_sum("examples", left.example_count + right.example_count)
    _check_sum("ignored examples", left.ignored_count + right.ignored_count)
    tallies = dict(left.tallies)
    for name, tally in right.tallies.items():
        tallies[name] = tallies[name].plus(tally, checkpoint) if name in tallies else tally
    return State(
        task=_agreed("task", left, right),
        width=_agreed("width", left, right),
        example_count=left.example_count + right.example_count,
        ignored_count=left.ignored_count + right.ignored_count,
        silent_count=left.silent_count + right.silent_count,
        nonfinite_count=left.nonfinite_count + right.nonfinite_count,
        tallies=tallies,
        tables=_compacted(left.tables + right.tables),
    )


def _agreed(name: str, left: State, right: State) -> Any:
    """Returns what both states have; raises StateError if they differ."""
    mine, others = getattr(left, name), getattr(right, name)
    if mine == others:
        return mine
    thing = {"task": "task", "width": "number of classes, labels or outputs"}[name]
    raise StateError(
        f"batches and states must agree on the {thing}, got {_said(mine)} and {_said(others)}"
    )


def _spoke(state: State) -> bool:
    return state.example_count + state.ignored_count > 0


def _said(value: Any) -> str:
    if value is None:
        return "none stated"
    return value.value if isinstance(value, enum.Enum) else str(value)
