"""The table of all shapes."""

from collections.abc import Mapping
from types import MappingProxyType

from lossd.losses import Loss, Shape
from lossd.shapes._shape import ShapeRules
from lossd.shapes.coupled import CoupledShape
from lossd.shapes.features import FeaturesShape
from lossd.shapes.images import ImagesShape
from lossd.shapes.opposed import OpposedShape
from lossd.shapes.pointwise import PointwiseShape
from lossd.shapes.regionwise import RegionwiseShape
from lossd.shapes.rowwise import RowwiseShape
from lossd.shapes.sequence import SequenceShape
from lossd.shapes.setwise import SetwiseShape
from lossd.shapes.vectors import VectorsShape

SHAPES: Mapping[Shape, ShapeRules] = MappingProxyType(
    {
        Shape.POINTWISE: PointwiseShape(),
        Shape.ROWWISE: RowwiseShape(),
        Shape.REGIONWISE: RegionwiseShape(),
        Shape.SETWISE: SetwiseShape(),
        Shape.SEQUENCE: SequenceShape(),
        Shape.OPPOSED: OpposedShape(),
        Shape.FEATURES: FeaturesShape(),
        Shape.VECTORS: VectorsShape(),
        Shape.COUPLED: CoupledShape(),
        Shape.IMAGES: ImagesShape(),
    }
)


def rules_of(loss: Loss) -> ShapeRules:
    """Returns the rules of the shape of a loss."""
    return SHAPES[loss.shape]
