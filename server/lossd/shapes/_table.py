"""The shapes there are."""

from collections.abc import Mapping
from types import MappingProxyType

from lossd.losses import Loss, Shape
from lossd.shapes._shape import ShapeRules
from lossd.shapes.coupled import Coupled
from lossd.shapes.features import Features
from lossd.shapes.images import Images
from lossd.shapes.opposed import Opposed
from lossd.shapes.pointwise import Pointwise
from lossd.shapes.regionwise import Regionwise
from lossd.shapes.rowwise import Rowwise
from lossd.shapes.sequence import Sequences
from lossd.shapes.setwise import Setwise
from lossd.shapes.vectors import Vectors

SHAPES: Mapping[Shape, ShapeRules] = MappingProxyType(
    {
        Shape.POINTWISE: Pointwise(),
        Shape.ROWWISE: Rowwise(),
        Shape.REGIONWISE: Regionwise(),
        Shape.SETWISE: Setwise(),
        Shape.SEQUENCE: Sequences(),
        Shape.OPPOSED: Opposed(),
        Shape.FEATURES: Features(),
        Shape.VECTORS: Vectors(),
        Shape.COUPLED: Coupled(),
        Shape.IMAGES: Images(),
    }
)


def rules_of(loss: Loss) -> ShapeRules:
    """What follows from the shape of a loss."""
    return SHAPES[loss.shape]
