"""Embeddings of handwritten digits, before and after training with losses of embeddings.

    pip install '.[demo]'
    python examples/digits_embedding.py [--steps 300] [--dimensions 2] [--picture digits.png]

A network of one hidden layer puts scikit-learn's 8 by 8 images into a few dimensions.  It is
trained with BatchTriplet and with SupervisedContrastive; every loss and every gradient with respect
to the embeddings comes from a lossd server in a second process.  The table says of how many images
that were never trained on the nearest training image shows the same digit, and the picture shows
where they lie.  A random projection and the principal components of the raw pixels, of as many
dimensions, are there for comparison.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from lossd.cli.served import running_server
from lossd.client import LossClient
from lossd.v1 import MINING_SEMI_HARD, BatchTriplet, SupervisedContrastive
from lossd.v1.losses import Loss

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

BATCH = 256
HIDDEN = 128
RATE = 3e-3

LOSSES: dict[str, Loss] = {
    "BatchTriplet": BatchTriplet(mining=MINING_SEMI_HARD),
    "SupervisedContrastive": SupervisedContrastive(temperature=0.2),
}


@dataclass(frozen=True, slots=True)
class Images:
    """Images with their digits."""

    pixels: Floats
    digits: Labels


class Network:
    """Pixels to embeddings through one hidden layer, trained with Adam."""

    def __init__(self, dimensions: int) -> None:
        random = np.random.default_rng(0)
        sizes = [(65, HIDDEN), (HIDDEN + 1, dimensions)]
        self._layers = [
            (random.standard_normal(size) * np.sqrt(2 / size[0])).astype(np.float32)
            for size in sizes
        ]
        self._moments = [(np.zeros_like(w), np.zeros_like(w)) for w in self._layers]
        self._step = 0

    def embed(self, pixels: Floats) -> tuple[Floats, Floats]:
        """The embeddings, and the hidden layer."""
        hidden = np.maximum(with_ones(pixels) @ self._layers[0], 0)
        return with_ones(hidden) @ self._layers[1], hidden

    def learn(self, pixels: Floats, hidden: Floats, gradient: Floats) -> None:
        """One step against the gradient with respect to the embeddings."""
        back = (gradient @ self._layers[1][:-1].T) * (hidden > 0)
        derivatives = [with_ones(pixels).T @ back, with_ones(hidden).T @ gradient]
        self._step += 1
        for layer, derivative in enumerate(derivatives):
            mean, square = self._moments[layer]
            mean = 0.9 * mean + 0.1 * derivative
            square = 0.999 * square + 0.001 * derivative * derivative
            self._moments[layer] = mean, square
            size = np.sqrt(square / (1 - 0.999**self._step)) + 1e-8
            self._layers[layer] -= RATE * mean / (1 - 0.9**self._step) / size


def with_ones(rows: Floats) -> Floats:
    """The rows with a 1 behind each for the constant term."""
    return np.hstack([rows, np.ones((len(rows), 1), np.float32)])


def split() -> tuple[Images, Images]:
    """Images to train on, and as many others to judge by."""
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    halves = np.array_split(order, 2)
    training, test = (Images((pixels[h] / 16).astype(np.float32), digits[h]) for h in halves)
    return training, test


def train(client: LossClient, loss: Loss, images: Images, dimensions: int, steps: int) -> Network:
    """A network trained with a loss of the server's."""
    network, random = Network(dimensions), np.random.default_rng(1)
    for _ in range(steps):
        chosen = random.choice(len(images.digits), BATCH, replace=False)
        pixels = images.pixels[chosen]
        embeddings, hidden = network.embed(pixels)
        result = client.compute(
            loss, embeddings=embeddings, labels=images.digits[chosen], per_example=False
        )
        network.learn(pixels, hidden, result.gradients["embeddings"])
    return network


def on_sphere(rows: Floats) -> Floats:
    """Rows of length 1, as SupervisedContrastive compares them."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    directions: Floats = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
    return directions


def accuracy(training: Floats, test: Floats, parts: tuple[Images, Images]) -> float:
    """The share of the test images whose nearest training image shows the same digit."""
    nearest = KNeighborsClassifier(1).fit(training, parts[0].digits)
    return float(nearest.score(test, parts[1].digits))


def embeddings_of_all(
    client: LossClient, parts: tuple[Images, Images], dimensions: int, steps: int
) -> dict[str, tuple[Floats, Floats]]:
    """Training and test images under each projection and each trained network."""
    training, test = parts
    random = np.random.default_rng(2).standard_normal((64, dimensions)).astype(np.float32)
    components = PCA(dimensions, random_state=0).fit(training.pixels)
    untrained = Network(dimensions)
    found = {
        "pixels, random projection": (training.pixels @ random, test.pixels @ random),
        "pixels, principal components": (
            components.transform(training.pixels),
            components.transform(test.pixels),
        ),
        "network before training": (
            untrained.embed(training.pixels)[0],
            untrained.embed(test.pixels)[0],
        ),
    }
    for name, loss in LOSSES.items():
        network = train(client, loss, training, dimensions, steps)
        both = [network.embed(part.pixels)[0] for part in parts]
        if "temperature" in loss.DESCRIPTOR.fields_by_name:
            both = [on_sphere(rows) for rows in both]
        found[f"network after {name}"] = (both[0], both[1])
    return found


def draw(found: dict[str, tuple[Floats, Floats]], digits: Labels, path: Path) -> None:
    """Scatters the test images by their first two dimensions, a colour a digit."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=(4 * len(found), 4), layout="constrained")
    for axes, (name, (_, test)) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        axes.scatter(test[:, 0], test[:, 1], c=digits, cmap="tab10", s=6)
        axes.set_title(name, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path, dpi=110)


def main() -> None:
    """Trains with both losses, shows the table and draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--dimensions", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="where to draw, for example digits.png")
    arguments = parser.parse_args()
    parts = split()
    with running_server() as server, LossClient(server.address) as client:
        found = embeddings_of_all(client, parts, arguments.dimensions, arguments.steps)
    table = Table("embedding", "nearest neighbour is right")
    for name, (training, test) in found.items():
        table.add_row(name, f"{accuracy(training, test, parts):.3f}")
    Console(width=80).print(table)
    if arguments.picture:
        draw(found, parts[1].digits, arguments.picture)


if __name__ == "__main__":
    main()
