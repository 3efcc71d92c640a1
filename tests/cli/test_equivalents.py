"""Claims of the pages about other libraries, against the versions installed for the tests."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.cli.equivalents import EQUIVALENTS
from lossd.engine import Engine
from lossd.losses import LOSSES, DistributionKind, MulticlassHingeVariant

BY_LOGARITHM = {"prediction_kind": DistributionKind.LOG_PROBABILITIES}
BY_PROBABILITY = {"prediction_kind": DistributionKind.PROBABILITIES}
OF_PYTORCH = [
    pytest.param(loss, one.name, id=one.name)
    for loss, several in EQUIVALENTS.items()
    for one in several
    if one.name.startswith("torch.")
]


def softmax(logits: np.ndarray) -> Any:
    shares = np.exp(logits)
    return shares / shares.sum(axis=-1, keepdims=True)


def drawn() -> dict[str, Any]:
    """Arrays of 7 examples, by what they are."""
    random = np.random.default_rng(11)
    return {
        "numbers": random.standard_normal((7, 5)),
        "others": random.standard_normal((7, 5)),
        "third": random.standard_normal((7, 5)),
        "shares": softmax(random.standard_normal((7, 5))),
        "chances": random.uniform(0.1, 0.9, (7, 5)),
        "counts": random.integers(0, 9, (7, 5)).astype(float),
        "labels": random.integers(0, 5, 7),
        "signs": random.choice([-1.0, 1.0], 7),
    }


# By the name there: which arrays, our parameters, and how the call goes there.
Table = dict[str, tuple[tuple[str, ...], dict[str, Any], Callable[..., Any]]]
CALLS: Table = {
    **dict.fromkeys(
        ("L1Loss", "HuberLoss", "SmoothL1Loss", "MSELoss"),
        (("numbers", "others"), {}, lambda kind, *given: kind()(*given)),
    ),
    "BCEWithLogitsLoss": (("numbers", "chances"), {}, lambda kind, *given: kind()(*given)),
    "BCELoss": (("chances", "shares"), BY_PROBABILITY, lambda kind, *given: kind()(*given)),
    "CosineEmbeddingLoss": (
        ("numbers", "others", "signs"), {}, lambda kind, *given: kind()(*given),
    ),
    "CrossEntropyLoss": (("numbers", "labels"), {}, lambda kind, *given: kind()(*given)),
    "NLLLoss": (
        ("numbers", "labels"), BY_LOGARITHM, lambda kind, x, y: kind()(x.log_softmax(-1), y),
    ),
    "GaussianNLLLoss": (
        ("numbers", "others", "chances"), {}, lambda kind, *given: kind()(*given),
    ),
    "KLDivLoss": (
        ("numbers", "shares"), BY_LOGARITHM,
        lambda kind, x, y: kind(reduction="batchmean")(x.log_softmax(-1), y),
    ),
    "MultiMarginLoss": (
        ("numbers", "labels"), {"variant": MulticlassHingeVariant.WESTON_WATKINS},
        lambda kind, x, y: 5 * kind()(x, y),
    ),
    "PoissonNLLLoss": (("numbers", "counts"), {}, lambda kind, *given: kind()(*given)),
    "TripletMarginLoss": (("numbers", "others", "third"), {}, lambda kind, *given: kind()(*given)),
}  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "theirs"), OF_PYTORCH)
def test_pytorchs_loss_of_that_name_gives_that_number(name: str, theirs: str) -> None:
    torch = pytest.importorskip("torch")
    kind = getattr(torch.nn, theirs.removeprefix("torch.nn."))
    if kind is torch.nn.CTCLoss:
        found, wanted = alignments(torch, kind)
    else:
        arrays, parameters, call = CALLS[kind.__name__]
        given = [drawn()[array] for array in arrays]
        wanted = call(kind, *map(torch.tensor, given)).item()
        if parameters is BY_LOGARITHM:
            given[0] = np.log(softmax(given[0]))
        found = computed(name, parameters, given)

    assert found == pytest.approx(wanted, rel=1e-9)


def alignments(torch: Any, kind: Any) -> tuple[float, float]:
    random = np.random.default_rng(12)
    logits, labels = random.standard_normal((3, 8, 5)), random.integers(1, 5, (3, 2))
    lengths = np.full(3, 8), np.full(3, 2)
    logarithms = np.log(softmax(logits))
    by_frame = torch.tensor(logarithms.swapaxes(0, 1))
    wanted = kind()(by_frame, torch.tensor(labels), *map(torch.tensor, lengths)).item()
    return computed("ctc", BY_LOGARITHM, [logarithms, labels]), wanted


def computed(name: str, parameters: dict[str, Any], given: list[Any]) -> float:
    engine = Engine(NumpyBackend(threads=1))
    loss = LOSSES[name]
    inputs = {one.name: [array] for one, array in zip(loss.inputs, given, strict=False)}
    result = engine.run(Job(loss=loss, parameters=parameters, inputs=inputs))
    engine.backend.close()
    assert result.loss is not None
    return result.loss


def test_every_name_is_of_a_loss_and_means_one() -> None:
    assert EQUIVALENTS.keys() <= LOSSES.keys()
    names = [one.name.rpartition(".")[2] for several in EQUIVALENTS.values() for one in several]
    assert len(set(names)) == len(names)
