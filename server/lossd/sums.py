"""Sums of losses: several terms over the same inputs, with one combined gradient.

A term is a job of its own.  Whatever the sum is asked for (a reduction, weights, a mask, a
cotangent), each term is asked for, and has to support.
"""

import functools
import itertools
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends import round_into, shrunk_totals
from lossd.batch import Array, Job
from lossd.checkpoints import Checkpoint, never_stop
from lossd.engine import (
    Allocate,
    ComputedTerm,
    Engine,
    ExampleStatuses,
    Hold,
    Place,
    Result,
    hold_nothing,
)
from lossd.errors import InvalidRequest, InvalidTensor, ServiceError
from lossd.losses import Differentiable, Status
from lossd.networks import Networks
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction
from lossd.shapes import Owners, lay_out, owners_of

MAX_TERMS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A weight and a job; ``names`` are the request's names of the inputs of its loss."""

    weight: float
    job: Job
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SumJob:
    """A request for a sum of losses; ``gradients`` is None for the defaults of the terms.

    They are named as the request names the inputs; "terms[0].temperature" names a parameter.
    """

    terms: tuple[Term, ...]
    inputs: Mapping[str, Sequence[Array]]
    gradients: Sequence[str] | None = None
    per_example: bool = True


def run(
    engine: Engine,
    job: Job | SumJob,
    *,
    allocate: Allocate | None = None,
    place: Place = lambda *_: None,
    checkpoint: Checkpoint = never_stop,
    hold: Hold = hold_nothing,
) -> Result:
    """Computes a job; for a sum, computes all terms and adds them up.

    ``allocate`` and ``place`` make the arrays of the result of a single loss; they and ``hold`` are
    as in ``Engine.run``.

    Raises:
        InvalidRequest: if the caller broke a rule.
        DeviceFull: if the device does not have enough memory.
    """
    if isinstance(job, Job):
        return engine.run(job, allocate=allocate, place=place, checkpoint=checkpoint, hold=hold)
    _check(job)
    total = _Total(job, engine.networks)
    most = _Most(hold)

    def computed(position: int, own: Job) -> Result:
        try:
            return engine.run(own, checkpoint=checkpoint, hold=most.hold)
        except ServiceError as error:
            raise of_term(position, error, job.terms[position]) from error

    for position in range(len(job.terms)):
        most.keep(total.add(position, computed(position, _job(job, position))))
    lost = total.settle()
    if lost is not None:
        total.take_losses(
            {
                position: computed(position, total.without(position, lost))
                for position, term in enumerate(job.terms)
                if term.job.loss.shape.is_apart
            },
            lost,
        )
    return total.finished(engine.backend.name)


class _Most:
    """Terms are computed one after the other: what counts is twice the most, for it is added up.

    That is beside what is kept of each term.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._held = self._kept = 0

    def keep(self, nbytes: int) -> None:
        """Takes note of what is kept of a term while others are computed."""
        self._kept += nbytes

    def hold(self, needed: int) -> None:
        """Counts what a term takes beyond those before it."""
        beyond = self._kept + 2 * needed - self._held
        if beyond > 0:
            self._hold(beyond)
            self._held += beyond


def of_term(position: int, error: ServiceError, term: Term | None = None) -> ServiceError:
    """Returns the same error with the term in it, and with the request's names of inputs."""
    message = _renamed(term, str(error))
    is_of_loss = error.field.partition(".")[0] == "loss"
    found = type(error)(
        f"terms[{position}]: {message}",
        field=error.field if is_of_loss else _renamed(term, error.field),
        reason=error.reason,
        details=error.details,
    )
    return found.below(f"loss.weighted_sum.terms[{position}]") if is_of_loss else found


def _renamed(term: Term | None, text: str) -> str:
    if term is None:
        return text
    names = {own: name[:64] for own, name in term.names.items() if own != name}
    if not names:
        return text
    own = "|".join(map(re.escape, names))
    return re.sub(rf"\b({own})\b", lambda found: names[found[0]], text)


# ------------------------------------------------------------------ the job of each term


def _check(job: SumJob) -> None:
    known = dict.fromkeys(name for term in job.terms for name in term.names.values())
    for name in job.inputs:
        if name not in known:
            raise InvalidTensor(
                f"inputs must be among {_named(known)}, got {name[:64]!r}", field="inputs"
            )
    for term in job.terms:
        if term.job.reduction is Reduction.NONE:
            raise InvalidRequest(
                "reduction must be mean, batch_mean or sum for a sum of losses, got none",
                field="reduction",
            )
    _check_gradients(job, known)


def _check_gradients(job: SumJob, known: Collection[str]) -> None:
    """Refuses unknown names, and ``known`` names of inputs that would be ambiguous."""
    parameters = [
        name
        for position, term in enumerate(job.terms)
        for name in _parameters(position, term).values()
    ]
    for name in parameters:
        if name in known:
            raise InvalidTensor(
                f"inputs must be named unlike a parameter of a term, got {name[:64]!r}",
                field="inputs",
            )
    inputs = (name for term in job.terms for name in _differentiable(job, term).values())
    possible = dict.fromkeys([*inputs, *parameters])
    for name in job.gradients or ():
        if name not in possible:
            raise InvalidRequest(
                f"gradients must be among {_named(possible)} for these terms "
                f"with these inputs, got {name[:64]!r}",
                field="gradients.inputs",
            )


def _named(names: Iterable[str]) -> str:
    """Returns names as a message has them, which is no longer than a header may be."""
    return ", ".join(name[:64] for name in names)


def _differentiable(job: SumJob, term: Term) -> dict[str, str]:
    """Maps a term's own names of differentiable inputs to the request's names."""
    return {
        declared.name: term.names[declared.name]
        for declared in term.job.loss.inputs
        if declared.differentiable is not Differentiable.NO
        and (term.names[declared.name] in job.inputs or not declared.is_optional)
        and all(map(_is_float, job.inputs.get(term.names[declared.name], ())))
    }


def _parameters(position: int, term: Term) -> dict[str, str]:
    """Maps a term's own names of differentiable parameters to the request's names.

    Terms share inputs, but no parameters: the position of the term tells whose it is.
    """
    return {
        declared.name: f"terms[{position}].{declared.name}"
        for declared in term.job.loss.parameters
        if declared.differentiable is not Differentiable.NO
    }


def _is_float(array: Array) -> bool:
    return array.dtype.kind not in "iub"  # bfloat16 is of kind V


def _job(job: SumJob, position: int) -> Job:
    term = job.terms[position]
    inputs = {
        own: [_widened(array) for array in job.inputs[name]]
        for own, name in term.names.items()
        if name in job.inputs
    }
    gradients = None
    if job.gradients is not None:
        possible = _differentiable(job, term) | _parameters(position, term)
        gradients = tuple(own for own, name in possible.items() if name in job.gradients)
    return replace(term.job, inputs=inputs, gradients=gradients, per_example=True)


def _without(job: Job, lost: Array, divisor: float) -> Job:
    """Returns a job for the loss alone, of all examples but those that are lost."""
    parameters = {name: value for name, value in job.parameters.items() if name != "outputs"}
    mask = ~lost if job.mask is None else job.mask.reshape(lost.shape) & ~lost
    normalizer = divisor if job.reduction.is_mean and divisor else None
    # Whether the batch is empty was asked about all of its examples.
    return replace(
        job,
        parameters=parameters,
        mask=mask,
        gradients=(),
        per_example=False,
        empty=EmptyPolicy.ZERO,
        normalizer=normalizer,
    )


def _widened(array: Array) -> Array:
    """Widens half precision to float32, which it is computed in anyway: sums are rounded last."""
    return array.astype(np.float32) if _is_float(array) and array.dtype.itemsize == 2 else array


# ------------------------------------------------------------------ adding up


class _Total:
    """The sum of the terms so far."""

    def __init__(self, job: SumJob, networks: Networks) -> None:
        self._job = job
        self._networks = networks
        self._loss = self._loss_sum = 0.0
        self._results: list[Result] = []
        self._terms: list[ComputedTerm] = []
        self._gradients: dict[str, list[Array]] = {}
        self._derivatives: dict[str, Array] = {}
        self._per_example: Array | None = None
        self._beyond: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._is_finite = True  # all gradients with respect to inputs
        self._is_unsound = False  # gradients that belong to no example

    def add(self, position: int, found: Result) -> int:
        """Adds the result of a term, and returns the bytes of it that are kept."""
        term = self._job.terms[position]
        parameters = _parameters(position, term)
        loss = math.nan if found.loss is None else found.loss
        self._loss += _weighed(term.weight, loss)
        self._loss_sum += _weighed(term.weight, found.loss_sum)
        own_gradients: dict[str, list[Array]] = {}
        for own, gradient in found.gradients.items():
            if own in parameters:
                self._add_slope(parameters[own], gradient, term.weight)
                continue
            name, several = term.names[own], gradient if isinstance(gradient, list) else [gradient]
            own_gradients[name] = _together(own_gradients.get(name), several)
            self._add_gradient(name, several, term.weight)
        self._add_values(term.weight, found.per_example)
        self._results.append(replace(found, gradients={}))
        self._terms.append(
            ComputedTerm(
                loss=loss,
                loss_sum=found.loss_sum,
                weight_sum=found.weight_sum,
                example_count=found.example_count,
                ignored_count=found.ignored_count,
                nonfinite_count=len(found.nonfinite_examples),
                status=found.status,
                gradient_norm=math.hypot(*map(_norm, itertools.chain(*own_gradients.values()))),
                outputs=found.outputs,
            )
        )
        values = () if found.per_example is None else (found.per_example,)
        return sum(array.nbytes for array in (*values, *found.outputs.values()))

    def _add_gradient(self, name: str, arrays: list[Array], weight: float) -> None:
        with np.errstate(all="ignore"):
            scaled = [_weighed(weight, array) for array in arrays]
            for position, array in enumerate(self._gradients.get(name, ())):
                scaled[position] += array
        self._gradients[name] = scaled

    def _add_slope(self, name: str, number: Array, weight: float) -> None:
        with np.errstate(all="ignore"):
            self._derivatives[name] = np.asarray(_weighed(weight, number))

    def _add_values(self, weight: float, values: Array | None) -> None:
        if values is None:
            return
        with np.errstate(all="ignore"):
            scaled = _weighed(weight, values)
            if self._per_example is None:
                self._per_example = scaled
            elif self._per_example.shape == scaled.shape:
                self._per_example = self._per_example + scaled

    @property
    def _is_one_batch(self) -> bool:
        """Whether an index means the same example in all terms."""
        shapes = {None if r.per_example is None else r.per_example.shape for r in self._results}
        return len(shapes) == 1

    def settle(self) -> Array | None:
        """Rounds the gradients, and does to what is not finite in the total what the job asks for.

        Returns which examples became 0, if any did: they are to be left out of the losses as well.

        Raises:
            InvalidRequest: if that is an error.
        """
        self._gradients = {name: self._rounded(name) for name in self._gradients}
        inputs = itertools.chain(*self._gradients.values())
        self._is_finite = all(np.isfinite(array).all() for array in inputs)
        lost, policy = self._lost(), self._job.terms[0].job.nonfinite
        if policy is NonfinitePolicy.ERROR:
            self._check_finite(lost)
        self._settle_shared(lost)
        if lost is None or not lost.any():
            return None
        self._beyond = np.flatnonzero(lost)
        if policy is not NonfinitePolicy.ZERO:
            return None
        if self._per_example is not None:
            self._per_example = np.where(lost, self._per_example.dtype.type(0), self._per_example)
        for array, owners in self._with_owners():
            if not owners.are_all:
                owners.clear(array, lost)
        return lost

    def without(self, position: int, lost: Array) -> Job:
        """Returns the job for the loss of a term alone, without what is lost, divided as before."""
        job = self._job.terms[position].job
        return _without(_job(self._job, position), lost, _divisor(job, self._results[position]))

    def take_losses(self, kept: Mapping[int, Result], lost: Array) -> None:
        """Takes the losses of the examples that are left; they are divided as before.

        ``kept`` are those of terms that were computed again.  Where an example decides what another
        loses, computing again would change that: the values that are left are added up.  Terms
        that are no sum of values keep theirs: it is that of all examples.
        """
        self._loss = self._loss_sum = 0.0
        pairs = zip(self._job.terms, self._results, strict=True)
        for position, (term, before) in enumerate(pairs):
            loss, loss_sum = before.loss or 0.0, before.loss_sum
            values = before.per_example if term.job.loss.shape.adds_up_values else None
            if values is not None:
                loss_sum, loss = _totals_of(term.job, values, lost, _divisor(term.job, before))
            elif position in kept:
                loss_sum, loss = kept[position].loss_sum, kept[position].loss or 0.0
            self._loss_sum += _weighed(term.weight, loss_sum)
            self._loss += _weighed(term.weight, loss)

    def _check_finite(self, lost: Array | None) -> None:
        inputs = itertools.chain.from_iterable(self._gradients.values())
        arrays = itertools.chain(inputs, self._derivatives.values())
        is_sound = all(np.isfinite(array).all() for array in arrays)
        if is_sound and (lost is None or not lost.any()):
            return
        details: dict[str, int] = {}
        where = "some not"
        if lost is not None and lost.any():
            details = {"index": int(lost.argmax()), "count": int(np.count_nonzero(lost))}
            where = f"{details['count']} that have not, the first at {details['index']}"
        raise InvalidRequest(
            f"examples must have a finite weighted sum and gradient, got {where}",
            reason="NONFINITE_RESULT",
            field="nonfinite",
            details=details,
        )

    def finished(self, backend: str) -> Result:
        found = self._results
        gradients = {n: a[0] if len(a) == 1 else a for n, a in self._gradients.items()}
        is_one_batch = self._is_one_batch
        nonfinite = self._nonfinite() if is_one_batch else np.zeros(0, np.int64)
        backends = {r.backend for r in found}
        return Result(
            loss=self._loss,
            loss_sum=self._loss_sum,
            weight_sum=_common([r.weight_sum for r in found]),
            example_count=int(_common([r.example_count for r in found])),
            ignored_count=int(_common([r.ignored_count for r in found])),
            nonfinite_examples=nonfinite,
            statuses=_statuses(found if is_one_batch else [], nonfinite),
            status=next((r.status for r in found if r.status is not None), self._status()),
            per_example=self._per_example if is_one_batch and self._job.per_example else None,
            gradients=gradients | self._derivatives,
            outputs={},  # the terms have theirs
            backend=backends.pop() if len(backends) == 1 else backend,
            terms=tuple(self._terms),
        )

    def _status(self) -> Status | None:
        return Status.NONFINITE if self._is_unsound else None

    def _nonfinite(self) -> npt.NDArray[np.int64]:
        """Returns the examples that are not finite in a term or, with its weight, in the total."""
        return _union([result.nonfinite_examples for result in self._results], self._beyond)

    def _lost(self) -> Array | None:
        """Returns which examples are not finite in the total; None where terms share none."""
        values = self._per_example
        if values is None or not self._is_one_batch:
            return None
        lost: Array = ~np.isfinite(values)
        if self._is_finite:
            return lost
        for array, owners in self._with_owners():
            if not owners.are_all:
                owners.flag_nonfinite(array, lost)
        return lost

    def _settle_shared(self, lost: Array | None) -> None:
        """Says of the whole that gradients which belong to no example are not finite."""
        for array in self._shared(lost):
            wrong = ~np.isfinite(array)
            if wrong.any():
                self._is_unsound = True
                if self._job.terms[0].job.nonfinite is NonfinitePolicy.ZERO:
                    array[wrong] = 0

    def _shared(self, lost: Array | None) -> Iterator[Array]:
        """Yields the gradients that belong to no example."""
        yield from self._derivatives.values()
        if not self._is_finite:
            for array, owners in self._with_owners():
                if lost is None or owners.are_all:
                    yield array

    def _with_owners(self) -> Iterator[tuple[Array, Owners]]:
        """Yields the gradients, each with whose its numbers are."""
        for name, arrays in self._gradients.items():
            for position, array in enumerate(arrays):
                yield array, self._owners[name, position]

    @functools.cached_property
    def _owners(self) -> Mapping[tuple[str, int], Owners]:
        """Whose the inputs are, by name and position, in the first term that has each."""
        owners: dict[tuple[str, int], Owners] = {}
        for position, term in enumerate(self._job.terms):
            job = _job(self._job, position)
            laid = lay_out(job, self._networks, workers=1)
            found = owners_of(laid, laid.arrays(job))
            for source, each in zip(laid.sources, found, strict=True):
                if source is not None:
                    owners.setdefault((term.names[source[0]], source[1]), each)
        return owners

    def _rounded(self, name: str) -> list[Array]:
        pairs = zip(self._gradients[name], self._job.inputs[name], strict=True)
        return [_in_type(array, given.dtype) for array, given in pairs]


def _totals_of(job: Job, values: Array, lost: Array, divisor: float) -> tuple[float, float]:
    """Returns the weighted sum of the values of examples that are not lost, and the mean."""
    left = np.where(lost, 0, values).reshape(-1)
    weights = None if job.weights is None else job.weights.reshape(-1).astype(np.float64)
    return shrunk_totals(left, weights, divisor)


def _divisor(job: Job, found: Result) -> float:
    """Returns what a loss was divided by."""
    if not job.reduction.is_mean:
        return 1.0
    if job.normalizer is not None:
        return job.normalizer
    return found.weight_sum if job.reduction is Reduction.MEAN else float(found.example_count)


def _in_type(array: Array, dtype: np.dtype[Any]) -> Array:
    if array.dtype == dtype:
        return array
    out = np.empty(array.shape, dtype)
    with np.errstate(all="ignore"):
        round_into(array, out)
    return out


def _weighed(weight: float, value: Any) -> Any:
    """Returns weight times value, but 0 where the weight is 0, since 0 times infinity is not 0."""
    if not isinstance(value, np.ndarray):
        return value * weight if weight else 0.0
    with np.errstate(all="ignore"):
        own = value.dtype.type(weight)  # in which a small weight may be 0
        if own and not np.finfo(own.dtype).tiny <= abs(own) < np.inf:
            # A large weight is infinite in the type of the values, and a subnormal one is rounded.
            return (weight * value.astype(np.float64)).astype(value.dtype)
        return value * own if own else np.zeros_like(value)


def _union(several: Iterable[npt.NDArray[np.int64]], more: Array) -> npt.NDArray[np.int64]:
    """Returns all examples of several lists and one more, each once and in order."""
    parts = [*several, more]
    among = np.zeros(_count(parts), np.bool_)
    for part in parts:
        among[part] = True
    return among.nonzero()[0]


def _statuses(results: Sequence[Result], nonfinite: npt.NDArray[np.int64]) -> ExampleStatuses:
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


def _together(before: list[Array] | None, arrays: list[Array]) -> list[Array]:
    """Adds the gradients with respect to one input that a term takes for several of its own."""
    if before is None:
        return arrays
    with np.errstate(all="ignore"):  # in float64, since the sum may be beyond a narrower type
        pairs = zip(before, arrays, strict=True)
        return [np.add(one, other, dtype=np.float64) for one, other in pairs]


def _norm(array: Array) -> float:
    """Returns the Euclidean length, without overflow."""
    with np.errstate(all="ignore"):
        largest = float(np.abs(array).max(initial=0))
        if not 0 < largest < math.inf:
            return largest
        scaled = (array / largest).astype(np.float64).reshape(-1)
        return largest * math.sqrt(float((scaled * scaled).sum()))


def _common(numbers: Sequence[float]) -> float:
    """Returns the number that all agree on; 0 where they do not."""
    return numbers[0] if all(number == numbers[0] for number in numbers) else 0
