"""``lossd demo``: a model trained through a server in another process.

The model and its optimiser are a page of NumPy in this process; every loss and every gradient with
respect to its predictions comes from lossd.
"""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from lossd.cli.arguments import WholeWithin
from lossd.cli.files import PlotFile, writing
from lossd.cli.served import running_server
from lossd.cli.shown import console
from lossd.client import LossClient
from lossd.client.progress import counted
from lossd.v1 import CrossEntropy

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

BATCH = 128
LEARNING_RATE = 3e-3


@click.command()
@click.option(
    "--epochs", type=WholeWithin(1, 100_000), default=30, show_default=True,
    help="Passes over the training images.",
)  # fmt: skip
@click.option(
    "--plot",
    type=PlotFile("demo"),
    default=Path("lossd-demo.png"),
    help="Picture of the losses.  [default: lossd-demo.png]",
)
def demo(epochs: int, plot: Path) -> None:
    """Train a digit recogniser with a server in a second process."""
    stdout = console()
    try:
        digits = _load_digits()
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the demo needs {error.name}: install it with pip install 'lossd[demo]'"
        ) from error
    with running_server() as server, LossClient(server.address) as client:
        info = client.server_info()
        stdout.print(f"server in another process at {server.address}, backend {info.backend}")
        network = DigitNetwork.initial(np.random.default_rng(0), (64, 128, 10))
        started = time.perf_counter()
        losses = train(client, network, digits, epochs)
        seconds = time.perf_counter() - started
    accuracy = (network.predict(digits.test_images).argmax(axis=1) == digits.test_labels).mean()
    _draw(losses, plot)
    stdout.print(
        f"test accuracy {accuracy:.1%} on {len(digits.test_labels)} images never trained on"
    )
    stdout.print(
        f"{len(losses)} calls in {seconds:.1f} s, {len(losses) / seconds:.0f} calls per second"
    )
    stdout.print(f"loss curve in {plot}")


@dataclass(frozen=True, slots=True)
class Digits:
    """Handwritten digits, as 8 by 8 grey values in [0, 1], with their labels."""

    train_images: Floats
    train_labels: Labels
    test_images: Floats
    test_labels: Labels


def _load_digits() -> Digits:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only the demo has scikit-learn
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        (images / 16).astype(np.float32), labels, test_size=0.25, random_state=0, stratify=labels
    )
    train_images, test_images, train_labels, test_labels = parts
    return Digits(train_images, train_labels, test_images, test_labels)


@dataclass(frozen=True, slots=True)
class DigitNetwork:
    """A network with one hidden layer: weights, biases, and Adam's running moments of each."""

    parameters: list[Floats]
    moments: list[tuple[Floats, Floats]]

    @classmethod
    def initial(cls, random: np.random.Generator, sizes: tuple[int, int, int]) -> "DigitNetwork":
        """Draws weights with variance 2 / fan-in, as He et al. (2015), equation 10."""
        parameters: list[Floats] = []
        for inputs, outputs in itertools.pairwise(sizes):
            weights = random.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
            parameters += [weights.astype(np.float32), np.zeros(outputs, np.float32)]
        return cls(parameters, [(np.zeros_like(p), np.zeros_like(p)) for p in parameters])

    def predict(self, images: Floats) -> Floats:
        """Returns the logits of each image."""
        return self._forward(images)[1]

    def _forward(self, images: Floats) -> tuple[Floats, Floats]:
        weights, biases, out_weights, out_biases = self.parameters
        hidden = np.maximum(images @ weights + biases, 0)
        return hidden, hidden @ out_weights + out_biases

    def step(self, images: Floats, labels: Labels, client: LossClient, count: int) -> float:
        """Returns one step of Adam, the ``count``-th; returns the loss before it."""
        hidden, logits = self._forward(images)
        result = client.compute(CrossEntropy(), predictions=logits, targets=labels)
        by_logits = np.asarray(result.gradients["predictions"])
        by_hidden = (by_logits @ self.parameters[2].T) * (hidden > 0)
        gradients = [
            images.T @ by_hidden, by_hidden.sum(axis=0),
            hidden.T @ by_logits, by_logits.sum(axis=0),
        ]  # fmt: skip
        for parameter, moments, gradient in zip(
            self.parameters, self.moments, gradients, strict=True
        ):
            _adam(parameter, moments, gradient, count)
        return result.loss or 0.0


def _adam(parameter: Floats, moments: tuple[Floats, Floats], gradient: Any, count: int) -> None:
    """Updates a parameter by Adam, in place: Kingma and Ba (2015), algorithm 1."""
    first, second = moments
    first += 0.1 * (gradient - first)
    second += 0.001 * (gradient**2 - second)
    unbiased_first, unbiased_second = first / (1 - 0.9**count), second / (1 - 0.999**count)
    parameter -= LEARNING_RATE * unbiased_first / (np.sqrt(unbiased_second) + 1e-8)


def train(client: LossClient, network: DigitNetwork, digits: Digits, epochs: int) -> list[float]:
    """Trains on shuffled batches; returns the loss of each."""
    random = np.random.default_rng(0)
    losses: list[float] = []
    with counted(range(epochs), "training", epochs) as shown:
        for _ in shown:
            order = random.permutation(len(digits.train_labels))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                images, labels = digits.train_images[batch], digits.train_labels[batch]
                losses.append(network.step(images, labels, client, len(losses) + 1))
    return losses


def _draw(losses: list[float], path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - the extra "demo" brings it

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="call",
        ylabel="cross-entropy, nats",
        yscale="log",
        title="Loss of each batch, from lossd",
    )
    axes.plot(losses, linewidth=0.8)
    axes.grid(alpha=0.3)
    with writing(path):
        figure.savefig(path, dpi=120)
