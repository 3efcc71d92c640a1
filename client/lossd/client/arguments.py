"""Checks the arguments of a call that are not arrays, before anything is sent.

``requests`` takes what it returns.
"""

import contextlib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from lossd import forms, v1
from lossd.client.arrays import is_sendable
from lossd.client.errors import InvalidRequestError
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

_INPUTS = LossInputs.__annotations__.keys()

# The arguments of ``compute`` and of ``evaluate`` that are no inputs.
compute_options = (
    "reduction",
    *(name for name in ComputeArguments.__annotations__ if name not in _INPUTS),
)
evaluate_options = ("weights", "mask", "states", "timeout", "request_id")

# gRPC takes a deadline that its clock cannot hold, some 200 years away, for one that has passed.
_LONGEST_TIMEOUT = 1e9

_REQUEST_ID = re.compile(r"[!-~]{1,128}")


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


def have_places(names: Collection[str], count: int, named: Mapping[str, Any]) -> bool:
    """Returns whether so many positional inputs, and all that are given by name, have a name."""
    return count <= len(names) and all(
        name in names for name, value in named.items() if value is not None
    )


def unknown_input(
    kind: str, name: str, names: Iterable[str], options: Iterable[str]
) -> InvalidRequestError:
    """Returns the refusal of an input that a loss or a metric has not.

    What was meant may be another input, or an argument of the call.  Where nothing is like it, the
    names are told if they are those of one loss, a tuple.
    """
    hint = guess(name, names, options)
    if not hint and isinstance(names, tuple):
        hint = f": there are {', '.join(names)}"
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


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that are given: None is none."""
    return {name: value for name, value in values.items() if value is not None}


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
