"""Tells which loss or metric is meant, and what is known of it: its inputs, what to train with.

A loss is told as a message, as a spec that holds one, or by its name.
"""

import functools
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from lossd import v1
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import LossInputs
from lossd.naming import guess

# The loss to train with instead of a metric, which has no gradient.
surrogates = MappingProxyType(
    {
        "accuracy": "CrossEntropy",
        "precision": "Tversky",
        "recall": "Tversky",
        "f1": "SoftF1",
        "f_beta": "Tversky",
        "matthews_correlation": "SoftF1",
        "confusion_matrix": "CrossEntropy",
        "roc_auc": "PairwiseAuc",
        "average_precision": "PairwiseAuc",
        "log_loss": "CrossEntropy",
        "brier": "SquaredError",
        "calibration_error": "CrossEntropy",
        "regression_errors": "SquaredError",
        "bleu": "ExpectedRisk",
        "chrf": "ExpectedRisk",
        "word_error_rate": "ExpectedRisk",
        "perplexity": "CrossEntropy",
        "retrieval_at_k": "InfoNce",
    }
)

# Inputs that may be several arrays; inputs of other losses are one array.
inputs_of_several = MappingProxyType({"feature_matching": frozenset({"predictions", "targets"})})

# Parameters that losses are differentiable in; other losses are differentiable in none.
differentiable_parameters = MappingProxyType(
    {
        "info_nce": ("temperature",),
        "nt_xent": ("temperature",),
        "sigmoid_contrastive": ("bias", "temperature"),
        "supervised_contrastive": ("temperature",),
    }
)

NOTHING: Mapping[str, Any] = MappingProxyType({})

Spec = TypeVar("Spec", bound=Message)


def spec_of(loss: object) -> v1.LossSpec:
    """Returns the spec that holds a loss, which a name gives too, or the spec itself.

    Raises:
        InvalidRequestError: if it is no message that a spec can hold, and no name of one.
    """
    loss = loss_named(loss) if isinstance(loss, str) else loss
    found = wrapped(v1.LossSpec, loss)
    if found is not None:
        return found
    _refuse_metric(member_of(v1.MetricSpec, loss))
    got = f"the class {loss.__name__}" if isinstance(loss, type) else type(loss).__name__
    raise _invalid(
        "loss",
        f"loss must be a message of LossSpec or its name, as Huber() or 'huber', got {got}",
    )


def message_of(loss: Any) -> Any:
    """Returns a loss as a message: the one of a name or in a spec, or what is given.

    Raises:
        InvalidRequestError: if there is no loss of that name, or the spec is empty.
    """
    if isinstance(loss, v1.LossSpec):
        return getattr(loss, loss_name(loss))
    return loss_named(loss) if isinstance(loss, str) else loss


def loss_named(name: object, parameters: Mapping[str, Any] = NOTHING) -> Message:
    """Returns the loss of a name, for example ``"huber"``, with parameters.

    Raises:
        InvalidRequestError: if there is none, or a parameter breaks its form.
    """
    if isinstance(name, str):
        _refuse_metric(name if name in _kinds(v1.MetricSpec.DESCRIPTOR) else None)
    return _named("loss", v1.LossSpec, name, parameters)


def metric_named(name: object, parameters: Mapping[str, Any] = NOTHING) -> Message:
    """Returns the metric of a name, for example ``"roc_auc"``, with parameters.

    Raises:
        InvalidRequestError: if there is none, or a parameter breaks its form.
    """
    if isinstance(name, str) and name in _kinds(v1.LossSpec.DESCRIPTOR):
        raise _invalid("metrics", f"metric must be no loss, got {name}: give it to compute")
    return _named("metrics", v1.MetricSpec, name, parameters)


def _named(field: str, spec: type[Message], name: object, parameters: Mapping[str, Any]) -> Message:
    kinds = _kinds(spec.DESCRIPTOR)
    if not isinstance(name, str) or name not in kinds:
        hint = guess(name, kinds) if isinstance(name, str) else ""
        example = next(iter(kinds))
        raise _invalid(
            field,
            f"name must be that of a message of {spec.DESCRIPTOR.name}, for example {example!r}, "
            f"got {name!r:.64}{hint}",
        )
    try:
        return kinds[name](**parameters)
    except (TypeError, ValueError) as error:
        raise _invalid(field, f"{name}: {error}") from error


def check_name(message: object) -> None:
    """Refuses a text that is the name of neither a loss nor a metric.

    Raises:
        InvalidRequestError: with a guess among both.
    """
    kinds = {**_kinds(v1.LossSpec.DESCRIPTOR), **_kinds(v1.MetricSpec.DESCRIPTOR)}
    if isinstance(message, str) and message not in kinds:
        hint = guess(message, kinds)
        raise _invalid(
            "message", f"name must be that of a loss or of a metric, got {message!r:.64}{hint}"
        )


@functools.cache
def _kinds(spec: Descriptor) -> Mapping[str, type[Message]]:
    """Returns the messages that a spec can hold by the names of its fields."""
    return {name: getattr(v1, kind) for kind, name in _members(spec).items()}


def _refuse_metric(member: str | None) -> None:
    """Refuses a metric, which has no gradient, and names the loss to use instead."""
    if member is not None:
        name = _kinds(v1.MetricSpec.DESCRIPTOR)[member].__name__
        raise _invalid(
            "loss",
            f"loss must be differentiable, got the metric {name}: train with "
            f"{surrogates[member]}, and give {name} to evaluate",
        )


def refuse_parameters(spec: v1.LossSpec, names: Iterable[str]) -> None:
    """Refuses parameters of a loss among the inputs of a call.

    Raises:
        InvalidRequestError: if there are any.
    """
    loss = loss_name(spec)
    given = _parameters(loss).intersection(names)
    if given:
        name, kind = min(given), _kinds(v1.LossSpec.DESCRIPTOR)[loss].__name__
        raise _invalid(
            name,
            f"inputs must be tensors, got {name}, a parameter: give it to the loss, as in "
            f"{kind}({name}=...) or make_loss({loss!r}, {name}=...)",
        )


@functools.cache
def _parameters(loss: str) -> frozenset[str]:
    return frozenset(_kinds(v1.LossSpec.DESCRIPTOR)[loss].DESCRIPTOR.fields_by_name)


def wrapped(spec: type[Spec], message: object) -> Spec | None:
    """Returns the spec that holds a message, or that it is itself; None if none can hold it."""
    if isinstance(message, spec):
        return message
    member = member_of(spec, message)
    return None if member is None else spec(**{member: message})


def member_of(spec: type[Message], message: object) -> str | None:
    """Returns the name of the field of a spec that holds such messages; None if there is none."""
    if not isinstance(message, Message):
        return None
    return _members(spec.DESCRIPTOR).get(message.DESCRIPTOR.name)


@functools.cache
def _members(spec: Descriptor) -> Mapping[str, str]:
    """Returns the names of a spec's fields by those of the messages that they hold."""
    fields: Any = spec.oneofs_by_name["kind"].fields
    return {field.message_type.name: field.name for field in fields}


def loss_names(spec: v1.LossSpec) -> tuple[str, ...]:
    """Returns the names of the losses in a spec: of the terms where it is a sum.

    Raises:
        InvalidRequestError: if a spec is empty, or a sum has no terms or a sum among them.
    """
    if loss_name(spec) != "weighted_sum":
        return (loss_name(spec),)
    names = tuple(loss_name(term.loss) for term in spec.weighted_sum.terms)
    if not names:
        raise _invalid("terms", "terms must be at least one, got none")
    if "weighted_sum" in names:
        field = f"terms[{names.index('weighted_sum')}].loss"
        raise _invalid(field, f"{field} must be a single loss, got a sum of losses")
    return names


def loss_name(spec: v1.LossSpec) -> str:
    """Returns the name of the loss in a spec, for example ``"huber"``.

    Raises:
        InvalidRequestError: if the spec is empty.
    """
    name: str | None = spec.WhichOneof("kind")
    if name is None:
        raise _invalid("loss", "loss must be set, got an empty LossSpec")
    return name


def may_be_several(spec: v1.LossSpec, name: str) -> bool:
    """Returns whether an input of a loss, or of a term of a sum, may be a list of arrays."""
    if loss_name(spec) != "weighted_sum":
        return name in inputs_of_several.get(loss_name(spec), ())
    return any(
        name == term.input_names.get(own, own)
        for term in spec.weighted_sum.terms
        for own in inputs_of_several.get(loss_name(term.loss), ())
    )


def known_inputs(spec: v1.LossSpec) -> set[str]:
    """Returns the names of inputs of all losses, and those that a sum gives to some."""
    renamed = (name for term in spec.weighted_sum.terms for name in term.input_names.values())
    return {*LossInputs.__annotations__, *renamed}


def _invalid(name: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, field=name)
