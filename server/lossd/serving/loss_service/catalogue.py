"""The catalogue as data: for ``ListLosses``, the command line and the documents."""

from collections.abc import Sequence

from lossd import tensors, v1
from lossd.losses import LOSSES, Content, Input, Loss
from lossd.serving.wire.descriptions import describe_parameter, differentiability
from lossd.serving.wire.reader import FLOATS
from lossd.shapes import rules_of

_INTEGERS = tuple(kind for dtype, kind in tensors.type_of_dtype.items() if dtype.kind in "biu")
_DTYPES = {
    Content.FLOATS: FLOATS,
    Content.NUMBERS: _INTEGERS + FLOATS,
    Content.CLASSES: _INTEGERS + FLOATS,
    Content.INDICES: _INTEGERS,
    Content.LENGTHS: _INTEGERS,
    Content.LABELS: _INTEGERS,
    Content.OFFSETS: _INTEGERS,
    Content.FLAGS: _INTEGERS,
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
        parameters=[describe_parameter(parameter) for parameter in loss.all_parameters],
    )


def _describe_input(loss: Loss, declared: Input) -> v1.InputDescription:
    return v1.InputDescription(
        name=declared.name,
        description=declared.description,
        shapes=shapes(loss, declared),
        dtypes=_DTYPES[declared.content],
        differentiability=differentiability[declared.differentiable],
        optional=declared.is_optional,
    )


def shapes(loss: Loss, declared: Input) -> Sequence[str]:
    """Returns the shapes an input may have, as patterns."""
    return rules_of(loss).patterns(loss, declared)
