"""Rare classes: what class weights and other losses gain where 1 example in 100 is positive.

    pip install '.[demo]'
    python examples/imbalance.py [--digits 0123456789] [--splits 3] [--steps 200]

Each digit of scikit-learn's 8 by 8 images in turn is the rare class: all other digits stay, and of
the digit itself as many as make 1 in 100.  The same linear model is trained with each loss; every
loss and every gradient with respect to its scores comes from a lossd server in a second process.
The first table has the mean over the digits, on images never trained on, again 1 in 100 of them
positive.  The metric that a loss is meant for is marked.

The second table is about ranking.  A linear model of all pixels leaves nothing to gain there: over
all cuts plain cross-entropy has a ROC AUC of 0.982, PairwiseAuc 0.980, and 0.982 with the logistic
surrogate.  So the model sees no more than the ink of each row and column of an image, 16 numbers.
Each digit is cut several times, and all images that are not trained on judge.  In the mean of
cross-entropy the positives hardly count against the decay of the weights, among pairs they count as
much as all negatives; balanced class weights do as well.  With a tenth of the decay, cross-entropy
catches up: 0.956, against 0.956 and 0.957.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from lossd.cli.served import running_server
from lossd.client import LossClient, balanced_weights, effective_number_weights
from lossd.v1 import (
    AUC_SURROGATE_LOGISTIC,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    PairwiseAuc,
    SoftF1,
    SoftmaxFocal,
)
from lossd.v1.losses import Loss

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

NEGATIVES_A_POSITIVE = 99
DECAY = 1e-3  # of the model's weights: without it they grow for ever on images that a plane parts

RANKING = "ROC AUC"
METRICS: dict[str, Callable[[Labels, Floats], float]] = {
    "balanced accuracy": lambda labels, scores: balanced_accuracy_score(labels, scores > 0),
    "F1": lambda labels, scores: f1_score(labels, scores > 0, zero_division=0),
    RANKING: roc_auc_score,
}


@dataclass(frozen=True, slots=True)
class Method:
    """A loss, made from how many negatives and positives there are, and the metric it is for."""

    name: str
    loss: Callable[[Labels], Loss]
    meant_for: str = ""


METHODS = (
    Method("cross-entropy", lambda _: CrossEntropy()),
    Method(
        "cross-entropy, balanced weights",
        lambda counts: CrossEntropy(class_weights=balanced_weights(counts)),
        "balanced accuracy",
    ),
    Method(
        "cross-entropy, effective numbers",
        lambda counts: CrossEntropy(class_weights=effective_number_weights(counts, beta=0.99)),
        "F1",
    ),
    Method(
        "cross-entropy, class priors",
        lambda counts: CrossEntropy(class_priors=counts),
        "balanced accuracy",
    ),
    Method(
        "binary cross-entropy, positive weight",
        lambda counts: BinaryCrossEntropy(positive_weights=[np.sqrt(counts[0] / counts[1])]),
        "F1",
    ),
    Method("focal", lambda _: Focal(), "F1"),
    Method(
        "softmax focal, balanced weights",
        lambda counts: SoftmaxFocal(class_weights=balanced_weights(counts)),
        "balanced accuracy",
    ),
    Method("soft F1", lambda _: SoftF1(), "F1"),
)
RANKERS = (
    *METHODS[:2],
    Method("pairwise AUC, squared hinge", lambda _: PairwiseAuc(), RANKING),
    Method(
        "pairwise AUC, logistic",
        lambda _: PairwiseAuc(surrogate=AUC_SURROGATE_LOGISTIC),
        RANKING,
    ),
)


@dataclass(frozen=True, slots=True)
class Images:
    """Images in numbers, each with a 1 for the constant term, and whether they are rare."""

    features: Floats
    labels: Labels


Parts = tuple[Images, Images]


def pixels(images: Floats) -> Floats:
    """All there is of an image."""
    return images.reshape(len(images), -1)


def profile(images: Floats) -> Floats:
    """The ink of each of its rows and columns."""
    return np.hstack([images.mean(axis=2), images.mean(axis=1)])


def cut(
    digit: int, split: int, features: Callable[[Floats], Floats], *, judge_by_all: bool = False
) -> Parts:
    """Images to train on, 1 in 100 of the digit, and images to judge by: as many, or all others."""
    data = load_digits()
    seen = features(data.images / 16)
    seen = np.hstack([seen, np.ones((len(seen), 1))])
    order = np.random.default_rng([digit, split]).permutation(len(seen))
    is_rare = data.target[order] == digit
    negatives, positives = order[~is_rare], order[is_rare]
    half = len(negatives) // 2
    few = half // NEGATIVES_A_POSITIVE
    parts = (
        (negatives[:half], positives[:few]),
        (negatives[half:], positives[few : None if judge_by_all else 2 * few]),
    )
    training, test = (
        Images(seen[np.concatenate(part)], np.repeat([0, 1], [len(group) for group in part]))
        for part in parts
    )
    return training, test


def train(client: LossClient, loss: Loss, images: Images, steps: int) -> Floats:
    """The weights of a linear model, by L-BFGS from 0."""

    def objective(weights: Floats) -> tuple[float, Floats]:
        value, by_scores = loss_of_scores(client, loss, images.features @ weights, images.labels)
        decayed = DECAY * np.append(weights[:-1], 0)
        return value + float(decayed @ weights) / 2, images.features.T @ by_scores + decayed

    start = np.zeros(images.features.shape[1])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return np.asarray(found.x)


def loss_of_scores(
    client: LossClient, loss: Loss, scores: Floats, labels: Labels
) -> tuple[float, Floats]:
    """The loss and its gradient; a loss of classes sees each score as the logits [0, score]."""
    of_classes = isinstance(loss, (CrossEntropy, SoftmaxFocal))
    predictions = np.stack([np.zeros_like(scores), scores], axis=1) if of_classes else scores
    result = client.compute(loss, predictions=predictions, targets=labels, per_example=False)
    gradient = result.gradients["predictions"]
    return result.loss or 0.0, gradient[:, 1] if of_classes else gradient


def judge(client: LossClient, method: Method, parts: Parts, steps: int) -> Floats:
    """Each metric of a model trained with the method, on images never trained on."""
    training, test = parts
    loss = method.loss(np.bincount(training.labels))
    scores = test.features @ train(client, loss, training, steps)
    return np.array([metric(test.labels, scores) for metric in METRICS.values()])


def compared(client: LossClient, digits: list[int], steps: int) -> Table:
    """Returns the averages of each method over the digits."""
    cuts = [cut(digit, 0, pixels) for digit in digits]
    table = Table("trained with", *METRICS)
    for method in METHODS:
        found = [judge(client, method, parts, steps) for parts in cuts]
        means = dict(zip(METRICS, np.mean(found, axis=0), strict=True))
        marks = {name: " *" if name == method.meant_for else "" for name in means}
        table.add_row(method.name, *(f"{means[name]:.3f}{marks[name]}" for name in means))
    return table


def ranked(client: LossClient, digits: list[int], splits: int, steps: int) -> Table:
    """How well each method ranks, and what it gains over plain cross-entropy, cut by cut."""
    cuts = [
        cut(digit, split, profile, judge_by_all=True) for digit in digits for split in range(splits)
    ]
    column = list(METRICS).index(RANKING)
    table = Table("trained with", RANKING, "gain: mean", "spread", "least", "cuts won")
    plain = np.zeros(0)
    for method in RANKERS:
        found = np.array([judge(client, method, parts, steps)[column] for parts in cuts])
        if not len(plain):
            plain = found
        gain = found - plain
        numbers = (
            f"{number:.3f}" for number in (found.mean(), gain.mean(), gain.std(), gain.min())
        )
        table.add_row(method.name, *numbers, f"{(gain > 0).sum()} of {len(cuts)}")
    return table


def main() -> None:
    """Trains with every method and shows the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--digits", default="0123456789", help="the digits that are rare in turn")
    parser.add_argument("--splits", type=int, default=3, help="cuts of each digit for the ranking")
    parser.add_argument("--steps", type=int, default=200, help="steps of L-BFGS at most")
    arguments = parser.parse_args()
    digits = [int(digit) for digit in arguments.digits]
    console = Console(width=100)
    with running_server() as server, LossClient(server.address) as client:
        console.print(compared(client, digits, arguments.steps))
        console.print(ranked(client, digits, arguments.splits, arguments.steps))


if __name__ == "__main__":
    main()
