"""Requests on the wire, from the cases that contracts run."""

import enum
from typing import Any

from lossd import v1
from lossd.client.requests import build_request
from lossd.naming import members_of
from tests.losses.case import Case


def message_of(case: Case) -> Any:
    """The loss of a case as a message; the members of an enum have other names there."""
    message = getattr(v1, case.loss.message)()
    for name, value in case.parameters.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, tuple):
            getattr(message, name).extend([_number(field, item) for item in value])
        else:
            setattr(message, name, _number(field, value))
    return message


def _number(field: Any, value: Any) -> Any:
    if not isinstance(value, enum.Enum):
        return value
    return field.enum_type.values_by_name[members_of(field.enum_type)[value.name]].number


def request_of(case: Case, **options: Any) -> v1.ComputeLossRequest:
    """The request of a case; the options are those of a client."""
    inputs = {n: a[0] if len(a) == 1 else list(a) for n, a in case.job().inputs.items()}
    request: v1.ComputeLossRequest = build_request(message_of(case), inputs, **options).message
    return request
