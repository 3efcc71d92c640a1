"""Parameters as data, for the catalogues of losses and of metrics."""

import typing
from collections.abc import Mapping
from types import MappingProxyType

from lossd import v1
from lossd.losses import Differentiable, Parameter
from lossd.schema import REQUIRED, exactly

differentiability: Mapping[Differentiable, v1.Differentiability] = MappingProxyType(
    {
        Differentiable.NO: v1.DIFFERENTIABILITY_NONE,
        Differentiable.ON_REQUEST: v1.DIFFERENTIABILITY_ON_REQUEST,
        Differentiable.BY_DEFAULT: v1.DIFFERENTIABILITY_DEFAULT,
    }
)


def describe_parameter(parameter: Parameter) -> v1.ParameterDescription:
    """Describes one parameter."""
    return v1.ParameterDescription(
        name=parameter.name,
        type=type_name(parameter),
        default=default_text(parameter),
        bounds=str(parameter.bounds or ""),
        differentiability=differentiability[parameter.differentiable],
    )


def type_name(parameter: Parameter) -> str:
    """Returns the type as protobuf names it."""
    if parameter.is_vector:
        return "repeated double"
    if parameter.is_text:
        return "repeated string" if parameter.is_list else "string"
    if parameter.choices is not None:
        return f"{'repeated ' if parameter.is_list else ''}{parameter.choices.__name__}"
    return {float: "double", int: "int64", bool: "bool"}[parameter.type]


def default_text(parameter: Parameter) -> str:
    """Returns the default as text; empty for unset, "required" where there is none."""
    default: typing.Any = parameter.default
    if default is None:
        return ""
    if default is REQUIRED:
        return "required"
    if parameter.is_list:
        return "[]"
    if parameter.type is bool:
        return str(default).lower()
    return (
        exactly(default) if isinstance(default, float) else getattr(default, "name", str(default))
    )
