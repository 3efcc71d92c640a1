"""The sum of the terms, as they are computed."""

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lossd.backends import shrunk_totals
from lossd.batch import Array, Job
from lossd.engine import ComputedTerm, Result
from lossd.errors import InvalidRequest
from lossd.losses import Status
from lossd.networks import Networks
from lossd.reduction import Flags, NonfinitePolicy, Reduction
from lossd.shapes import Owners, lay_out, owners_of
from lossd.sums._jobs import SumJob, job_of, loss_alone, parameters_of
from lossd.sums._numbers import (
    common,
    in_type,
    merged_statuses,
    norm,
    not_finite,
    together,
    union,
    weighed,
    weighed_all,
)


class Total:
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
        parameters = parameters_of(position, term)
        loss = math.nan if found.loss is None else found.loss
        self._loss += weighed(term.weight, loss)
        self._loss_sum += weighed(term.weight, found.loss_sum)
        own_gradients: dict[str, list[Array]] = {}
        for own, gradient in found.gradients.items():
            if own in parameters:
                self._add_slope(parameters[own], gradient, term.weight)
                continue
            name, several = term.names[own], gradient if isinstance(gradient, list) else [gradient]
            own_gradients[name] = together(own_gradients.get(name), several)
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
                gradient_norm=math.hypot(*map(norm, itertools.chain(*own_gradients.values()))),
                outputs=found.outputs,
            )
        )
        values = () if found.per_example is None else (found.per_example,)
        return sum(array.nbytes for array in (*values, *found.outputs.values()))

    def _add_gradient(self, name: str, arrays: list[Array], weight: float) -> None:
        with np.errstate(all="ignore"):
            scaled = [weighed_all(weight, array) for array in arrays]
            for position, array in enumerate(self._gradients.get(name, ())):
                scaled[position] += array
        self._gradients[name] = scaled

    def _add_slope(self, name: str, number: Array, weight: float) -> None:
        self._derivatives[name] = weighed_all(weight, number)

    def _add_values(self, weight: float, values: Array | None) -> None:
        if values is None:
            return
        with np.errstate(all="ignore"):
            scaled = weighed_all(weight, values)
            if self._per_example is None:
                self._per_example = scaled
            elif self._per_example.shape == scaled.shape:
                self._per_example = np.asarray(self._per_example + scaled)

    @property
    def _is_one_batch(self) -> bool:
        """Whether an index means the same example in all terms."""
        return len(set(map(_example_shape, self._results))) == 1

    @property
    def _is_told_by_example(self) -> bool:
        """Whether each example has a value in all terms, and that is asked for."""
        is_possible = self._is_one_batch and all(r.per_example is not None for r in self._results)
        return is_possible and self._job.per_example

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
        return loss_alone(job_of(self._job, position), lost, _divisor(job, self._results[position]))

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
            self._loss_sum += weighed(term.weight, loss_sum)
            self._loss += weighed(term.weight, loss)

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
        """Returns the result; ``backend`` is its backend where terms have several."""
        found = self._results
        gradients = {n: a[0] if len(a) == 1 else a for n, a in self._gradients.items()}
        is_one_batch = self._is_one_batch
        nonfinite = self._nonfinite() if is_one_batch else np.zeros(0, np.int64)
        backends = {r.backend for r in found}
        return Result(
            loss=self._loss,
            loss_sum=self._loss_sum,
            weight_sum=common([r.weight_sum for r in found]),
            example_count=int(common([r.example_count for r in found])),
            ignored_count=int(common([r.ignored_count for r in found])),
            nonfinite_examples=nonfinite,
            statuses=merged_statuses(found if is_one_batch else [], nonfinite),
            status=next((r.status for r in found if r.status is not None), self._status()),
            per_example=self._per_example if self._is_told_by_example else None,
            gradients=gradients | self._derivatives,
            outputs={},  # the terms have theirs
            backend=backends.pop() if len(backends) == 1 else backend,
            terms=tuple(self._terms),
        )

    def _status(self) -> Status | None:
        return Status.NONFINITE if self._is_unsound else None

    def _nonfinite(self) -> npt.NDArray[np.int64]:
        """Returns the examples that are not finite in a term or, with its weight, in the total."""
        return union([result.nonfinite_examples for result in self._results], self._beyond)

    def _lost(self) -> Flags | None:
        """Returns which examples are not finite in the total; None where terms share none."""
        if not self._is_one_batch:
            return None
        values = self._per_example  # of the terms that have some
        if values is None:
            lost = np.zeros(_example_shape(self._results[0]), np.bool_)
        else:
            lost = not_finite(values)
        if self._is_finite:
            return lost
        for array, owners in self._with_owners():
            if not owners.are_all:
                owners.flag_nonfinite(array, lost)
        return lost

    def _settle_shared(self, lost: Array | None) -> None:
        """Says of the whole that gradients which belong to no example are not finite."""
        for array in self._shared(lost):
            wrong = not_finite(array)
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
            job = job_of(self._job, position)
            laid = lay_out(job, self._networks, workers=1)
            found = owners_of(laid, laid.arrays(job))
            for source, each in zip(laid.sources, found, strict=True):
                if source is not None:
                    owners.setdefault((term.names[source[0]], source[1]), each)
        return owners

    def _rounded(self, name: str) -> list[Array]:
        pairs = zip(self._gradients[name], self._job.inputs[name], strict=True)
        return [in_type(array, given.dtype) for array, given in pairs]


def _example_shape(found: Result) -> tuple[int, ...]:
    """Returns the axes of the examples of a term; those of a set, without values, lie along one."""
    if found.per_example is None:
        return (found.example_count + found.ignored_count,)
    return found.per_example.shape


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
