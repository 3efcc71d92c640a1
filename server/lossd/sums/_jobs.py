"""Requests for sums of losses, what is wrong with them, and the job of each term."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossd.batch import Array, Job
from lossd.errors import InvalidRequest, InvalidTensor, ServiceError
from lossd.losses import Differentiable
from lossd.reduction import EmptyPolicy, Reduction

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


def check(job: SumJob) -> None:
    """Checks what the terms have to agree on.

    Raises:
        InvalidRequest: if an input, a gradient or the reduction breaks its rule.
    """
    known = dict.fromkeys(name for term in job.terms for name in term.names.values())
    for position, name in enumerate(job.inputs):
        if name not in known:
            raise InvalidTensor(
                f"inputs must be among {_named(known)}, got {name[:64]!r}",
                field=f"inputs[{position}].name",
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
        for name in parameters_of(position, term).values()
    ]
    for name in parameters:
        if name in known:
            raise InvalidTensor(
                f"inputs must be named unlike a parameter of a term, got {name[:64]!r}",
                field="inputs",
            )
    inputs = (name for term in job.terms for name in _differentiable(job, term).values())
    possible = dict.fromkeys([*inputs, *parameters])
    for position, name in enumerate(job.gradients or ()):
        if name not in possible:
            raise InvalidRequest(
                f"gradients must be among {_named(possible)} for these terms "
                f"with these inputs, got {name[:64]!r}",
                field=f"gradients.inputs[{position}]",
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


def parameters_of(position: int, term: Term) -> dict[str, str]:
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


def job_of(job: SumJob, position: int) -> Job:
    """Returns the job of the term at a position, which names its inputs as its loss does."""
    term = job.terms[position]
    inputs = {
        own: [_widened(array) for array in job.inputs[name]]
        for own, name in term.names.items()
        if name in job.inputs
    }
    gradients = None
    if job.gradients is not None:
        possible = _differentiable(job, term) | parameters_of(position, term)
        gradients = tuple(own for own, name in possible.items() if name in job.gradients)
    return replace(term.job, inputs=inputs, gradients=gradients, per_example=True)


def loss_alone(job: Job, lost: Array, divisor: float) -> Job:
    """Returns a job for the loss alone, of all examples but those that are lost."""
    parameters = {name: value for name, value in job.parameters.items() if name != "outputs"}
    left = ~lost if job.mask is None else job.mask.reshape(lost.shape) & ~lost
    normalizer = divisor if job.reduction.is_mean and divisor else None
    # Whether the batch is empty was asked about all of its examples.
    return replace(
        job,
        parameters=parameters,
        mask=np.asarray(left),  # that of one example without axes would be no array
        gradients=(),
        per_example=False,
        empty=EmptyPolicy.ZERO,
        normalizer=normalizer,
    )


def _widened(array: Array) -> Array:
    """Widens half precision to float32, which it is computed in anyway: sums are rounded last."""
    return array.astype(np.float32) if _is_float(array) and array.dtype.itemsize == 2 else array
