"""Checks the arguments of a call that are not arrays, before anything is sent.

It may import the contract, the forms and the errors; ``requests`` takes what it returns.
"""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from lossd import forms, v1
from lossd.client.arrays import is_sendable
from lossd.client.errors import InvalidRequestError, UnknownLossError
from lossd.client.hints import ComputeArguments, LossInputs
from lossd.naming import guess

reductions = MappingProxyType(
    {
        "mean": v1.REDUCTION_MEAN,
        "batch_mean": v1.REDUCTION_BATCH_MEAN,
        "sum": v1.REDUCTION_SUM,
        "none": v1.REDUCTION_NONE,
    }
)
empty_policies = MappingProxyType(
    {
        "zero": v1.EMPTY_POLICY_ZERO,
        "nan": v1.EMPTY_POLICY_NAN,
        "error": v1.EMPTY_POLICY_ERROR,
    }
)
nonfinite_policies = MappingProxyType(
    {
        "propagate": v1.NONFINITE_POLICY_PROPAGATE,
        "zero": v1.NONFINITE_POLICY_ZERO,
        "error": v1.NONFINITE_POLICY_ERROR,
    }
)

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

_INPUTS = LossInputs.__annotations__.keys()

# The arguments of ``compute`` and of ``evaluate`` that are no inputs.
compute_options = (
    "reduction",
    *(name for name in ComputeArguments.__annotations__ if name not in _INPUTS),
)
evaluate_options = ("weights", "mask", "states", "timeout", "request_id")

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

# gRPC takes a deadline that its clock cannot hold, some 200 years away, for one that has passed.
_LONGEST_TIMEOUT = 1e9

_REQUEST_ID = re.compile(r"[!-~]{1,128}")


def spec_of(loss: object) -> v1.LossSpec:
    """Returns the spec that holds a loss, which a name gives too, or the spec itself.

    Raises:
        InvalidRequestError: if it is no message that a spec can hold, and no name of one.
    """
    loss = loss_named(loss) if isinstance(loss, str) else loss
    found = wrapped(v1.LossSpec, loss)
    if found is not None:
        return found
    _refuse_metric(_member_of(v1.MetricSpec, loss))
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
    member = _member_of(spec, message)
    return None if member is None else spec(**{member: message})


def _member_of(spec: type[Message], message: object) -> str | None:
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


def names_of(spec: v1.LossSpec, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the names of the inputs of a loss; of a sum those of its terms, in their order.

    Raises:
        UnknownLossError: if a loss is not among the known ones.
    """
    for loss in loss_names(spec):
        if loss not in known:
            raise UnknownLossError(f"loss must be one that the server knows, got {loss}")
    if loss_name(spec) != "weighted_sum":
        return known[loss_name(spec)]
    names = (
        term.input_names.get(name, name)
        for term in spec.weighted_sum.terms
        for name in known[loss_name(term.loss)]
    )
    return tuple(dict.fromkeys(names))


def names_if_known(loss: object, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """Returns what ``names_of`` does for a single loss that is known; None for any other."""
    name = loss if isinstance(loss, str) else _member_of(v1.LossSpec, loss)
    return None if name is None or name == "weighted_sum" else known.get(name)


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
    return {*_INPUTS, *renamed}


def check_names(
    inputs: Iterable[str], names: Collection[str], options: Iterable[str] = compute_options
) -> None:
    """Refuses inputs that a loss of some ``names`` has not, with a guess at what was meant.

    Raises:
        InvalidRequestError: if there are any.
    """
    for name in inputs:
        if name not in names:
            raise unknown_input("loss", name, names, options)


def unknown_input(
    kind: str, name: str, names: Iterable[str], options: Iterable[str]
) -> InvalidRequestError:
    """Returns the refusal of an input that a loss or a metric has not.

    What was meant may be another input, or an argument of the call.
    """
    hint = guess(name, (*names, *options))
    return _invalid("inputs", f"inputs must have names of the {kind}, got {name[:64]!r}{hint}")


@contextlib.contextmanager
def named_by(
    kind: str, name: str, names: Callable[[], Collection[str]], options: Iterable[str]
) -> Iterator[None]:
    """Refuses a name that is not known in place of a value that is none of an array."""
    try:
        yield
    except InvalidRequestError as error:
        known = names()
        if name in known:
            raise
        raise unknown_input(kind, name, known, options) from error


def bind(
    names: Iterable[str], positional: Iterable[Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns all inputs by name; positional ones take the names in order.

    Raises:
        InvalidRequestError: if there are more inputs than names, or one is given both ways.
    """
    names, positional = tuple(names), tuple(positional)
    if len(positional) > len(names):
        raise _invalid(
            "inputs",
            f"positional inputs must be at most {len(names)} ({', '.join(names)}), "
            f"got {len(positional)}",
        )
    bound = dict(zip(names, positional, strict=False))
    for name in named:
        if name in bound:
            raise _invalid(name, f"{name} must be given once, got it by position and by name")
    return bound | dict(named)


def member(name: str, members: Mapping[str, Any], value: object) -> Any:
    """Returns the member of an enum that a text names.

    Raises:
        InvalidRequestError: if it names none.
    """
    if isinstance(value, str) and value in members:
        return members[value]
    hint = guess(value, members) if isinstance(value, str) else ""
    raise _invalid(name, f"{name} must be one of {', '.join(members)}, got {value!r}{hint}")


def number(name: str, value: float | None) -> float | None:
    """Returns the value as a float; None stays None.

    Raises:
        InvalidRequestError: if it is no number.
    """
    if value is None:
        return None
    try:
        return forms.number(name, value)
    except forms.FormError as error:
        raise _invalid(name, str(error)) from error


def divisor(normalizer: float | None, reduction: str) -> float | None:
    """Returns a normalizer as a float; None stays None.

    Raises:
        InvalidRequestError: if it is not in (0, inf), or the reduction is no mean.
    """
    found = number("normalizer", normalizer)
    if found is None:
        return None
    check_mean(reduction)
    if not 0 < found < math.inf:
        raise _invalid("normalizer", f"normalizer must be in (0, inf), got {found:g}")
    return found


def check_mean(reduction: str) -> None:
    """Refuses a reduction that a normalizer does not go with.

    Raises:
        InvalidRequestError: unless it is a mean.
    """
    if reduction not in ("mean", "batch_mean"):
        raise _invalid(
            "normalizer",
            f"normalizer must go with the reductions mean and batch_mean, got {reduction}",
        )


def flag(name: str, value: object) -> bool:
    """Returns the value as True or False, which 1 and 0 are too.

    Raises:
        InvalidRequestError: if it is neither.
    """
    if value is True or value is False:  # as those of most calls
        return value
    try:
        return forms.truth(name, value)
    except forms.FormError as error:
        raise _invalid(name, str(error)) from error


def selection(
    names: Iterable[str] | v1.GradientSelection | None,
) -> v1.GradientSelection | None:
    """Returns the inputs whose gradients are wanted; None for those that the loss declares.

    A selection is returned unchanged.

    Raises:
        InvalidRequestError: for a bare text, or for anything but an iterable of texts.
    """
    if names is None or isinstance(names, v1.GradientSelection):
        return names
    return v1.GradientSelection(inputs=names_in("gradients", names))


def names_in(field: str, given: object) -> tuple[str, ...]:
    """Returns the names that an argument lists.

    Raises:
        InvalidRequestError: for a bare text, or for anything but an iterable of texts.
    """
    if isinstance(given, str):  # a text is an iterable of names too, of one letter each
        raise _invalid(field, f"{field} must be a list of names, got the text {given!r}")
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise _invalid(field, f"{field} must be a list of names, got {given!r}")
    found = tuple(given)
    for name in found:
        if not isinstance(name, str) or not is_sendable(name):
            raise _invalid(field, f"{field} must hold names, got {name!r}")
    return found


def checked_timeout(timeout: float) -> float:
    """Returns the timeout in seconds, at most some decades.

    Raises:
        InvalidRequestError: unless it is in (0, inf).
    """
    if type(timeout) is float and 0 < timeout <= _LONGEST_TIMEOUT:  # as that of most calls
        return timeout
    seconds = number("timeout", timeout)
    if seconds is None or not 0 < seconds < math.inf:
        raise _invalid("timeout", f"timeout must be in (0, inf), got {timeout!r}")
    return min(seconds, _LONGEST_TIMEOUT)


def checked_request_id(request_id: object) -> str:
    """Returns the id, which goes into metadata and into logs.

    Raises:
        InvalidRequestError: unless it is 1 to 128 visible ASCII characters.
    """
    if isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id):
        return request_id
    raise _invalid(
        "request_id", f"request_id must be 1 to 128 visible ASCII characters, got {request_id!r}"
    )


def undifferentiated(name: str, remedy: str) -> InvalidRequestError:
    """Returns the refusal of an argument whose gradient is wanted, which the server has not."""
    return _invalid(name, f"{name} must not be differentiated, got one that is: use {remedy}")


def _invalid(name: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, field=name)
