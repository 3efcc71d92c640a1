"""Names of losses in other libraries, for their pages and for users who type such a name.

Reduced to a mean, each gives the same number as lossd if its remark is followed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A loss of another library, and how to make the two equal."""

    name: str
    remark: str = ""


def _named(*names: str | tuple[str, str]) -> Sequence[Equivalent]:
    return tuple(Equivalent(name) if isinstance(name, str) else Equivalent(*name) for name in names)


_BY_LOGARITHM = "with prediction_kind=LOG_PROBABILITIES"
_BY_PROBABILITY = "with prediction_kind=PROBABILITIES"
_FROM_LOGITS = "from_logits=True"

EQUIVALENTS: Mapping[str, Sequence[Equivalent]] = MappingProxyType(
    {
        "absolute_error": _named("torch.nn.L1Loss", "keras.losses.MeanAbsoluteError"),
        "binary_cross_entropy": _named(
            "torch.nn.BCEWithLogitsLoss",
            ("torch.nn.BCELoss", _BY_PROBABILITY),
            "optax.losses.sigmoid_binary_cross_entropy",
            ("keras.losses.BinaryCrossentropy", _FROM_LOGITS),
        ),
        "cosine_embedding": _named("torch.nn.CosineEmbeddingLoss"),
        "cross_entropy": _named(
            ("torch.nn.CrossEntropyLoss", "whose classes are axis 1: class_axis=1"),
            ("torch.nn.NLLLoss", _BY_LOGARITHM),
            "optax.losses.softmax_cross_entropy",
            "optax.losses.softmax_cross_entropy_with_integer_labels",
            ("keras.losses.CategoricalCrossentropy", _FROM_LOGITS),
            ("keras.losses.SparseCategoricalCrossentropy", _FROM_LOGITS),
        ),
        "ctc": _named(
            ("torch.nn.CTCLoss", f"of (T, N, C), {_BY_LOGARITHM}"),
            ("optax.losses.ctc_loss", "of paddings in place of lengths, not divided by lengths"),
        ),
        "focal": _named("optax.losses.sigmoid_focal_loss"),
        "gaussian_nll": _named("torch.nn.GaussianNLLLoss"),
        "hinge": _named(
            "optax.losses.hinge_loss",
            "keras.losses.Hinge",
            ("keras.losses.SquaredHinge", "with power=2"),
        ),
        "huber": _named("torch.nn.HuberLoss", "optax.losses.huber_loss", "keras.losses.Huber"),
        "kl_divergence": _named(
            ("torch.nn.KLDivLoss", f'reduction="batchmean", {_BY_LOGARITHM}'),
            ("optax.losses.kl_divergence", _BY_LOGARITHM),
            ("keras.losses.KLDivergence", _BY_PROBABILITY),
        ),
        "log_cosh": _named("optax.losses.log_cosh", "keras.losses.LogCosh"),
        "multiclass_hinge": _named(
            (
                "torch.nn.MultiMarginLoss",
                "with variant=WESTON_WATKINS; it divides by the number of classes",
            ),
            ("keras.losses.CategoricalHinge", "which takes 0 among the other scores"),
        ),
        "poisson_nll": _named(
            ("torch.nn.PoissonNLLLoss", "which adds eps to rates"),
            ("keras.losses.Poisson", "with log_input=false; it adds epsilon to rates"),
        ),
        "smooth_l1": _named("torch.nn.SmoothL1Loss"),
        "squared_error": _named(
            "torch.nn.MSELoss", "optax.losses.squared_error", "keras.losses.MeanSquaredError"
        ),
        "triplet": _named("torch.nn.TripletMarginLoss"),
    }
)
