"""The losses in PyTorch: its own where it has one with these defaults, or put together from it.

What is put together is what people write, or what torchvision has, operation by operation.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

Function = Callable[..., Any]


def function(label: str) -> Function | None:
    """The mean in PyTorch of a loss, which is named with the members of enums that are chosen."""
    return own().get(label) or COMPOSED.get(label)


def own() -> dict[str, Function]:
    """Returns PyTorch's counterpart."""
    from torch.nn import functional  # noqa: PLC0415 - an oracle, not a requirement

    return {
        "squared_error": functional.mse_loss,
        "absolute_error": functional.l1_loss,
        "huber": functional.huber_loss,
        "smooth_l1": functional.smooth_l1_loss,
        "poisson_nll": functional.poisson_nll_loss,
        "gaussian_nll": functional.gaussian_nll_loss,
        "cross_entropy": functional.cross_entropy,
        "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
        "binary_cross_entropy PROBABILITIES": functional.binary_cross_entropy,
        "cross_entropy LOG_PROBABILITIES": functional.nll_loss,
        "kl_divergence LOG_PROBABILITIES PROBABILITIES": partial(
            functional.kl_div, reduction="batchmean"
        ),
        "kl_divergence LOG_PROBABILITIES LOG_PROBABILITIES": partial(
            functional.kl_div, reduction="batchmean", log_target=True
        ),
        "triplet": functional.triplet_margin_loss,
        "cosine_embedding": functional.cosine_embedding_loss,
        "ctc": _ctc,
        "kl_divergence": lambda logits, targets: functional.kl_div(
            functional.log_softmax(logits, -1), targets, reduction="batchmean"
        ),
        # PyTorch divides by the number of classes.
        "multiclass_hinge WESTON_WATKINS": lambda scores, targets: (
            functional.multi_margin_loss(scores, targets) * scores.shape[1]
        ),
    }


def _ctc(predictions: Any, targets: Any) -> Any:
    from torch.nn import functional  # noqa: PLC0415 - an oracle, not a requirement

    rows, frames, _ = predictions.shape
    logs = predictions.log_softmax(-1).transpose(0, 1)
    return functional.ctc_loss(logs, targets, (frames,) * rows, (targets.shape[1],) * rows)


def _divergence(*, target_is_logits: bool) -> Function:
    """Returns the divergence from a target of logarithms, or of logits."""

    def loss(logits: Any, targets: Any) -> Any:
        from torch.nn import functional  # noqa: PLC0415 - an oracle, not a requirement

        logs = functional.log_softmax(targets, -1) if target_is_logits else targets
        given = functional.log_softmax(logits, -1)
        return functional.kl_div(given, logs, reduction="batchmean", log_target=True)

    return loss


def _divergence_of_given(*, is_log: bool, target_kind: str) -> Function:
    """Returns the divergence of a prediction that is given as (log-)probabilities."""

    def loss(given: Any, targets: Any) -> Any:
        from torch.nn import functional  # noqa: PLC0415 - an oracle, not a requirement

        logs = functional.log_softmax(targets, -1) if target_kind == "LOGITS" else targets
        return functional.kl_div(
            given if is_log else given.log(),
            logs,
            reduction="batchmean",
            log_target=target_kind != "PROBABILITIES",
        )

    return loss


def _info_nce(queries: Any, keys: Any) -> Any:
    """A matrix of similarities, and cross-entropy of its diagonal."""
    import torch  # noqa: PLC0415 - an oracle, not a requirement

    normalize = torch.nn.functional.normalize
    scores = normalize(queries) @ normalize(keys).T / 0.07
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)))


def _supervised_contrastive(embeddings: Any, labels: Any) -> Any:
    """The mean over anchors that have another of their label, of the mean over those."""
    import torch  # noqa: PLC0415 - an oracle, not a requirement

    directions = torch.nn.functional.normalize(embeddings)
    itself = torch.eye(len(labels), dtype=torch.bool)
    scores = (directions @ directions.T / 0.07).masked_fill(itself, -torch.inf)
    is_positive = (labels[:, None] == labels) & ~itself
    logs = scores.log_softmax(-1).masked_fill(~is_positive, 0)
    counts = is_positive.sum(-1)
    return -(logs.sum(-1)[counts > 0] / counts[counts > 0]).mean()


def _hinge(scores: Any, sides: Any) -> Any:
    return (1 - sides * scores).clamp(min=0).mean()


def _focal(logits: Any, targets: Any) -> Any:
    """As torchvision has it."""
    from torch.nn import functional  # noqa: PLC0415 - an oracle, not a requirement

    share = logits.sigmoid()
    cost = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    right = share * targets + (1 - share) * (1 - targets)
    return (cost * (1 - right) ** 2).mean()


def _counts(shares: Any, truth: Any, axes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    hits = (shares * truth).sum(axes)
    return hits, shares.sum(axes) - hits, truth.sum(axes) - hits


def _overlap(twice: float, share: float) -> Function:
    """One minus the mean index of each example: 2 and 1 for Dice, 1 and 1 for Jaccard."""

    def loss(logits: Any, truth: Any) -> Any:
        axes = tuple(range(1, logits.ndim))
        hits, extra, missed = _counts(logits.sigmoid(), truth, axes)
        right = twice * hits + 1e-5
        return (1 - right / (right + share * (extra + missed))).mean()

    return loss


def _overlap_of_classes(twice: float, share: float, axis: int) -> Function:
    """The same of the softmax over classes, averaged over them."""

    def loss(logits: Any, labels: Any) -> Any:
        from torch.nn import functional  # noqa: PLC0415 - an oracle, not a requirement

        shares = logits.softmax(axis)
        truth = functional.one_hot(labels, logits.shape[axis]).movedim(-1, axis).to(shares.dtype)
        axes = (2, 3) if axis == 1 else (1, 2)
        hits, extra, missed = _counts(shares, truth, axes)
        right = twice * hits + 1e-5
        return (1 - right / (right + share * (extra + missed))).mean()

    return loss


def _soft_f1(logits: Any, truth: Any) -> Any:
    hits, extra, missed = _counts(logits.sigmoid(), truth, (0,))
    return (1 - 2 * hits / (2 * hits + extra + missed)).mean()


def _contrastive(left: Any, right: Any, alike: Any) -> Any:
    import torch  # noqa: PLC0415 - an oracle, not a requirement

    distance = torch.nn.functional.pairwise_distance(left, right, eps=0)
    return (alike * distance**2 + (1 - alike) * (1 - distance).clamp(min=0) ** 2).mean()


def _softplus(numbers: Any) -> Any:
    import torch  # noqa: PLC0415 - an oracle, not a requirement

    return torch.nn.functional.softplus(numbers)


def _critic(real: Any, fake: Any) -> Any:
    return _softplus(-real).mean() + _softplus(fake).mean()


def _critic_hinge(real: Any, fake: Any) -> Any:
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def _critic_of_means(real: Any, fake: Any) -> Any:
    return _critic(real - fake.mean(), fake - real.mean())


def _gradient_penalty(gradients: Any) -> Any:
    return ((gradients.flatten(1).norm(dim=1) - 1) ** 2).mean()


COMPOSED: dict[str, Function] = {
    "kl_divergence LOG_PROBABILITIES": _divergence(target_is_logits=False),
    "kl_divergence LOGITS": _divergence(target_is_logits=True),
    "kl_divergence LOG_PROBABILITIES LOGITS": _divergence_of_given(
        is_log=True, target_kind="LOGITS"
    ),
    **{
        f"kl_divergence PROBABILITIES {kind}": _divergence_of_given(is_log=False, target_kind=kind)
        for kind in ("PROBABILITIES", "LOG_PROBABILITIES", "LOGITS")
    },
    "contrastive": _contrastive,
    "gradient_penalty": _gradient_penalty,
    "info_nce": _info_nce,
    "supervised_contrastive": _supervised_contrastive,
    "hinge": _hinge,
    "focal": _focal,
    "dice": _overlap(2, 1),
    "jaccard": _overlap(1, 1),
    "tversky": _overlap(1, 0.5),
    **{
        f"{name} class_axis={axis}": _overlap_of_classes(*kind, axis)
        for name, kind in {"dice": (2, 1), "jaccard": (1, 1), "tversky": (1, 0.5)}.items()
        for axis in (1, -1)
    },
    "soft_f1": _soft_f1,
    "generator_loss": lambda fake: _softplus(-fake).mean(),
    "discriminator_loss": _critic,
    "discriminator_loss HINGE": _critic_hinge,
    "discriminator_loss RELATIVISTIC": lambda real, fake: _softplus(fake - real).mean(),
    "discriminator_loss RELATIVISTIC_AVERAGE": _critic_of_means,
}
