"""The catalogue as data: for ``ListLosses``, the command line and the documents."""

import typing
from collections.abc import Sequence

from lossd import tensors, v1
from lossd.losses import LOSSES, Differentiable, Holds, Input, Loss, Parameter
from lossd.schema import REQUIRED
from lossd.shapes import rules_of

_FLOATS = (v1.D_TYPE_FLOAT16, v1.D_TYPE_BFLOAT16, v1.D_TYPE_FLOAT32, v1.D_TYPE_FLOAT64)
_INTEGERS = tuple(kind for dtype, kind in tensors.type_of_dtype.items() if dtype.kind in "biu")
_DTYPES = {
    Holds.FLOATS: _FLOATS,
    Holds.NUMBERS: _INTEGERS + _FLOATS,
    Holds.CLASSES: _INTEGERS + _FLOATS,
    Holds.INDICES: _INTEGERS,
    Holds.LENGTHS: _INTEGERS,
    Holds.LABELS: _INTEGERS,
}
_DIFFERENTIABILITY = {
    Differentiable.NO: v1.DIFFERENTIABILITY_NONE,
    Differentiable.ON_REQUEST: v1.DIFFERENTIABILITY_ON_REQUEST,
    Differentiable.BY_DEFAULT: v1.DIFFERENTIABILITY_DEFAULT,
}


def list_losses() -> v1.ListLossesResponse:
    """Describes every loss, by name."""
    return v1.ListLossesResponse(losses=[_describe(loss) for loss in LOSSES.values()])


def _describe(loss: Loss) -> v1.LossDescription:
    return v1.LossDescription(
        name=loss.name,
        message=loss.message,
        summary=loss.summary,
        formula=loss.formula,
        reference=loss.reference,
        inputs=[_describe_input(loss, declared) for declared in loss.inputs],
        parameters=[_describe_parameter(parameter) for parameter in loss.all_parameters],
    )


def _describe_input(loss: Loss, declared: Input) -> v1.InputDescription:
    return v1.InputDescription(
        name=declared.name,
        description=declared.description,
        shapes=shapes(loss, declared),
        dtypes=_DTYPES[declared.holds],
        differentiability=_DIFFERENTIABILITY[declared.differentiable],
        optional=declared.is_optional,
    )


def shapes(loss: Loss, declared: Input) -> Sequence[str]:
    """Returns the shapes an input may have, as patterns."""
    return rules_of(loss).patterns(loss, declared)


def _describe_parameter(parameter: Parameter) -> v1.ParameterDescription:
    return v1.ParameterDescription(
        name=parameter.name,
        type=type_name(parameter),
        default=default_text(parameter),
        bounds=str(parameter.bounds or ""),
        differentiability=_DIFFERENTIABILITY[parameter.differentiable],
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
    return f"{default:g}" if isinstance(default, float) else getattr(default, "name", str(default))
