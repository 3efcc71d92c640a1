"""Where the inputs of a loss have their examples."""

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.message import Message

from lossd.client import kinds
from lossd.v1 import LossSpec

Inputs = Mapping[str, Any]  # arrays, or lists of them

# Losses whose examples know nothing of each other, by what an example is: an element of each input,
# a row of classes, or whatever else lies along axis 0.
ELEMENTS = frozenset({
    "absolute_error", "binary_cross_entropy", "focal", "gaussian_nll", "hinge", "huber", "log_cosh",
    "poisson_nll", "quantile", "smooth_l1", "squared_error",
})  # fmt: skip
ROWS = frozenset({
    "cross_entropy", "expected_risk", "kl_divergence", "multiclass_hinge", "softmax_focal",
})  # fmt: skip
OTHERS = frozenset({
    "contrastive", "cosine_embedding", "ctc", "dice", "gradient_penalty", "jaccard", "lovasz_hinge",
    "lovasz_softmax", "triplet", "tversky",
})  # fmt: skip
INDEPENDENT = ELEMENTS | ROWS | OTHERS
# The inputs that tell how many examples there are, where it is not the first.
_TELLING = ("predictions", "log_probabilities", "queries", "chosen_log_probabilities", "fake")

# The inputs that tell where each example begins among flat tokens, and where the last one ends.
_OFFSETS = ("offsets", "chosen_offsets", "rejected_offsets")


def examples_of(loss: Any, inputs: Inputs) -> tuple[int, ...]:
    """Returns the shape of the examples of a batch, from those of its inputs."""
    offsets = next((inputs[one] for one in _OFFSETS if one in inputs), None)
    if offsets is not None:
        return (max(offsets.size - 1, 0),)
    name = name_of(loss)
    first = next((one for one in _TELLING if one in inputs), next(iter(inputs)))
    shape = tuple(next(arrays_in({first: inputs[first]})).shape)
    if name in ELEMENTS:
        return shape[: loss.batch_dims if loss.HasField("batch_dims") else 1]
    if name in ROWS and shape:
        axis = class_axis(loss) % len(shape)
        return shape[:axis] + shape[axis + 1 :]
    return shape[:1]


def name_of(loss: Message) -> str:
    """Returns the name of a loss; that of a spec is the name of what it holds."""
    spec = kinds.wrapped(LossSpec, loss)
    return str(spec.WhichOneof("kind")) if spec is not None else ""


def is_one_example(loss: Any) -> bool:
    """Returns whether all elements of a batch are one example, so that two would be one too."""
    has_dims = "batch_dims" in loss.DESCRIPTOR.fields_by_name and loss.HasField("batch_dims")
    return has_dims and loss.batch_dims == 0


def class_axis(loss: Any) -> int:
    """Returns the axis that counts classes: the last one, unless the loss says otherwise."""
    fields = loss.DESCRIPTOR.fields_by_name
    return loss.class_axis if "class_axis" in fields and loss.HasField("class_axis") else -1


def arrays_in(given: Inputs) -> Iterator[Any]:
    """Yields all arrays of some inputs."""
    for value in given.values():
        yield from value if isinstance(value, list | tuple) else (value,)
