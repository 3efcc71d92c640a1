"""Which layout goes with which shape of loss."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from lossd.batch._embeddings import lay_out_coupled, lay_out_vectors
from lossd.batch._features import lay_out_features
from lossd.batch._images import lay_out_images
from lossd.batch._opposed import lay_out_opposed
from lossd.batch._sequences import lay_out_sequence
from lossd.batch._shapes import (
    Layout,
    lay_out_pointwise,
    lay_out_regionwise,
    lay_out_rowwise,
    lay_out_setwise,
)
from lossd.losses import Shape

LAYOUTS: Mapping[Shape, Callable[..., Layout]] = MappingProxyType(
    {
        Shape.POINTWISE: lay_out_pointwise,
        Shape.ROWWISE: lay_out_rowwise,
        Shape.REGIONWISE: lay_out_regionwise,
        Shape.SETWISE: lay_out_setwise,
        Shape.SEQUENCE: lay_out_sequence,
        Shape.OPPOSED: lay_out_opposed,
        Shape.FEATURES: lay_out_features,
        Shape.VECTORS: lay_out_vectors,
        Shape.COUPLED: lay_out_coupled,
        Shape.IMAGES: lay_out_images,
    }
)
