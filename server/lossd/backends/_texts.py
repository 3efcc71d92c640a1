"""Which text of a loss computes a batch."""

import numpy as np

from lossd.batch import Batch
from lossd.kernels import find_text
from lossd.losses import CudaText


def text_of(batch: Batch) -> CudaText | None:
    """Returns the text of the kernel that takes the body's place; None if there is none."""
    if any(np.ndim(batch.parameters[name]) > 1 for name in batch.loss.vectors):
        return None  # kernels know numbers of columns only
    classes = any(operand.is_classes for operand in batch.operands)
    parameters = {**batch.parameters, **batch.layout_parameters}
    return find_text(batch.loss, parameters, targets_are_classes=classes)
