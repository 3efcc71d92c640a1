"""Rare classes: what class weights and other losses gain where 1 example in 100 is positive.

    pip install 'lossd[demo]'
    python examples/imbalance.py [--digits 0123456789] [--steps 200]

Each digit of scikit-learn's 8 by 8 images in turn is the rare class: all other digits stay, and of
the digit itself as many as make 1 in 100.  The same linear model is trained with each loss; every
loss and every gradient with respect to its scores comes from a lossd server in a second process.
The table has the mean over the digits, on images never trained on, again 1 in 100 of them positive.
The metric that a loss is meant for is marked.

PairwiseAuc is not in the table, since it gains nothing here: over all digits its ROC AUC is 0.963,
0.965 with the logistic surrogate, and that of plain cross-entropy 0.965.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from lossd.cli.served import served
from lossd.client import LossClient, balanced_weights, effective_number_weights
from lossd.v1 import BinaryCrossEntropy, CrossEntropy, Focal, SoftF1, SoftmaxFocal

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

NEGATIVES_A_POSITIVE = 99
DECAY = 1e-3  # of the model's weights: without it they grow for ever on images that a plane parts

METRICS: dict[str, Callable[[Labels, Floats], float]] = {
    "balanced accuracy": lambda labels, scores: balanced_accuracy_score(labels, scores > 0),
    "F1": lambda labels, scores: f1_score(labels, scores > 0, zero_division=0),
    "ROC AUC": roc_auc_score,
}


@dataclass(frozen=True, slots=True)
class Method:
    """A loss, made from how many negatives and positives there are, and the metric it is for."""

    name: str
    loss: Callable[[Labels], Message]
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


@dataclass(frozen=True, slots=True)
class Images:
    """Images, each with a 1 for the constant term, and whether they are of the rare class."""

    pixels: Floats
    labels: Labels


def cut(digit: int) -> tuple[Images, Images]:
    """Images to train on and images to judge by, in both 1 in 100 of the digit."""
    pixels, digits = load_digits(return_X_y=True)
    pixels = np.hstack([pixels / 16, np.ones((len(pixels), 1))])
    order = np.random.default_rng(digit).permutation(len(digits))
    negatives, positives = order[digits[order] != digit], order[digits[order] == digit]
    half = len(negatives) // 2
    few = half // NEGATIVES_A_POSITIVE
    parts = (
        (negatives[:half], positives[:few]),
        (negatives[half:], positives[few : 2 * few]),
    )
    training, test = (
        Images(pixels[np.concatenate(part)], np.repeat([0, 1], [len(group) for group in part]))
        for part in parts
    )
    return training, test


def train(client: LossClient, loss: Message, images: Images, steps: int) -> Floats:
    """The weights of a linear model, by L-BFGS from 0."""

    def objective(weights: Floats) -> tuple[float, Floats]:
        value, by_scores = loss_of_scores(client, loss, images.pixels @ weights, images.labels)
        decayed = DECAY * np.append(weights[:-1], 0)
        return value + float(decayed @ weights) / 2, images.pixels.T @ by_scores + decayed

    start = np.zeros(images.pixels.shape[1])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return np.asarray(found.x)


def loss_of_scores(
    client: LossClient, loss: Message, scores: Floats, labels: Labels
) -> tuple[float, Floats]:
    """The loss and its gradient; a loss of classes sees each score as the logits [0, score]."""
    of_classes = isinstance(loss, (CrossEntropy, SoftmaxFocal))
    predictions = np.stack([np.zeros_like(scores), scores], axis=1) if of_classes else scores
    result = client.compute(loss, predictions=predictions, targets=labels, per_example=False)
    gradient = result.gradients["predictions"]
    return result.loss or 0.0, gradient[:, 1] if of_classes else gradient


def judge(client: LossClient, method: Method, parts: tuple[Images, Images], steps: int) -> Floats:
    """Each metric of a model trained with the method, on images never trained on."""
    training, test = parts
    loss = method.loss(np.bincount(training.labels))
    scores = test.pixels @ train(client, loss, training, steps)
    return np.array([metric(test.labels, scores) for metric in METRICS.values()])


def main() -> None:
    """Trains with every method and shows the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--digits", default="0123456789", help="the digits that are rare in turn")
    parser.add_argument("--steps", type=int, default=200, help="steps of L-BFGS at most")
    arguments = parser.parse_args()
    cuts = [cut(int(digit)) for digit in arguments.digits]
    table = Table("trained with", *METRICS)
    with served() as server, LossClient(server.address) as client:
        for method in METHODS:
            found = [judge(client, method, parts, arguments.steps) for parts in cuts]
            means = dict(zip(METRICS, np.mean(found, axis=0), strict=True))
            marks = {name: " *" if name == method.meant_for else "" for name in means}
            table.add_row(method.name, *(f"{means[name]:.3f}{marks[name]}" for name in means))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
