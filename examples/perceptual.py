"""One picture from several that are shifted: squared error blurs it, a perceptual loss does not.

    pip install '.[demo]'
    python examples/perceptual.py [--steps 200] [--digits 10] [--output perceptual.png]

Of each digit there are some copies, shifted at random.  By gradient descent on its pixels a picture
is made that is as near to all of them as can be.  For squared error that is their mean, which is
blurred.  For the perceptual loss it is a picture in which a network sees what it sees in the
copies; where in the picture that is, the Gram matrices of its layers leave open.

The network is a small one in the style of VGG, trained here to tell digits: it is NumPy, which
knows how to go backwards and nothing of losses, and what it loses (cross-entropy) comes from a
lossd server.  Then it is saved for a second server, which looks through it.  The table has how
sharp the pictures are (squared slopes from pixel to pixel, where 1 is that of the digits), and how
many of them a classifier that has seen neither network nor copies takes for the right digit.
"""

import argparse
import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from rich.console import Console
from rich.table import Table
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from lossd.cli.served import running_server
from lossd.client import LossClient
from lossd.networks import Convolution, MaxPool, Network, Rectifier, save
from lossd.v1 import CrossEntropy, Perceptual, SquaredError
from lossd.v1.losses import Loss

mpl.use("agg")
from matplotlib import pyplot as plt

Floats = npt.NDArray[np.float32]
MODULES = (
    Convolution("conv1_1", padding=1),
    Rectifier("relu1_1"),
    Convolution("conv1_2", padding=1),
    Rectifier("relu1_2"),
    MaxPool("pool1"),
    Convolution("conv2_1", padding=1),
    Rectifier("relu2_1"),
)
WIDTHS = (12, 12, 24)
SHIFT, COPIES, BATCH = 2, 6, 32
STYLE = 10.0


def digits() -> tuple[Floats, npt.NDArray[np.int64]]:
    """Pictures (N, 1, 20, 20) of 0 to 1, with an edge that a shift may go into, and labels."""
    images, labels = load_digits(return_X_y=True)
    large = zoom(images.reshape(-1, 8, 8) / 16, (1, 2, 2), order=1)
    edge = ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT))
    return np.pad(large, edge)[:, None].astype(np.float32), labels


@dataclass
class Adam:
    """Moments of some arrays, which it changes in place."""

    rate: float
    _steps: int = 0
    _moments: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)

    def descend(self, arrays: list[Floats], gradients: list[Floats]) -> None:
        """One step."""
        self._steps += 1
        for position, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
            zero = np.zeros_like(gradient)
            first, second = self._moments.get(position, (zero, zero))
            first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
            self._moments[position] = first, second
            scale = np.sqrt(second / (1 - 0.99**self._steps)) + 1e-8
            step = self.rate * first / (1 - 0.9**self._steps) / scale
            np.subtract(array, step, out=array)


# ------------------------------------------------------------------ a classifier


def windows(images: Floats) -> Floats:
    """The 3x3 windows (N, H, W, channels * 9) of images with zeros around them."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = sliding_window_view(padded, (3, 3), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    found: Floats = np.ascontiguousarray(seen).reshape(*seen.shape[:3], -1)
    return found


def convolved(images: Floats, weight: Floats) -> Floats:
    """A 3x3 convolution without a bias."""
    found: Floats = windows(images) @ weight.reshape(len(weight), -1).T
    return found.transpose(0, 3, 1, 2)


def pooled(images: Floats) -> Floats:
    """The largest of each 2x2 window."""
    count, channels, height, width = images.shape
    found: Floats = images.reshape(count, channels, height // 2, 2, width // 2, 2).max((3, 5))
    return found


def enlarged(images: Floats) -> Floats:
    """Each pixel as a 2x2 window."""
    return images.repeat(2, axis=2).repeat(2, axis=3)


@dataclass
class Classifier:
    """The trunk of ``MODULES``, the mean over places, and a linear layer."""

    weights: list[Floats]
    biases: list[Floats]
    last: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Classifier":
        """With random weights."""
        weights, given = [], 1
        for width in WIDTHS:
            weight = rng.normal(0, (2 / (9 * given)) ** 0.5, (width, given, 3, 3))
            weights.append(weight.astype(np.float32))
            given = width
        last = rng.normal(0, 0.1, (given, 10)).astype(np.float32)
        return cls(weights, [np.zeros(width, np.float32) for width in WIDTHS], last)

    def forward(self, images: Floats) -> list[Floats]:
        """The images, what each layer makes of them, and last the logits."""
        seen = [images]
        for position, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            given = pooled(seen[-1]) if position == 2 else seen[-1]
            seen.append(np.maximum(convolved(given, weight) + bias[:, None, None], 0))
        return [*seen, seen[-1].mean((2, 3)) @ self.last]

    def backward(self, seen: list[Floats], gradient: Floats) -> list[Floats]:
        """Gradients with respect to the weights, the biases and the linear layer, in this order."""
        features = seen[-2]
        by_last = features.mean((2, 3)).T @ gradient
        by_mean = (gradient @ self.last.T)[:, :, None, None] / math.prod(features.shape[2:])
        derivatives: Floats = np.broadcast_to(by_mean, features.shape)
        by_weights: list[Floats] = []
        by_biases: list[Floats] = []
        for position in reversed(range(len(self.weights))):
            derivatives = derivatives * (seen[position + 1] > 0)
            given = pooled(seen[position]) if position == 2 else seen[position]
            by_weight = np.tensordot(derivatives, windows(given), axes=((0, 2, 3), (0, 1, 2)))
            by_weights.insert(0, by_weight.reshape(self.weights[position].shape))
            by_biases.insert(0, derivatives.sum((0, 2, 3)))
            if position == 0:
                break
            # Back through a convolution is one with the kernel turned round.
            derivatives = convolved(
                derivatives, self.weights[position].swapaxes(0, 1)[:, :, ::-1, ::-1]
            )
            if position == 2:
                derivatives = enlarged(derivatives) * (seen[position] == enlarged(given))
        return [*by_weights, *by_biases, by_last]


def train(client: LossClient, steps: int) -> Classifier:
    """A classifier of shifted digits."""
    rng = np.random.default_rng(0)
    model, optimiser = Classifier.drawn(rng), Adam(3e-3)
    images, labels = digits()
    for _ in range(steps):
        chosen = rng.integers(0, len(images), BATCH)
        seen = model.forward(shifted(rng, images[chosen]))
        lost = client.compute(
            CrossEntropy(), predictions=seen[-1], targets=labels[chosen], per_example=False
        )
        arrays = [*model.weights, *model.biases, model.last]
        optimiser.descend(arrays, model.backward(seen, lost.gradients["predictions"]))
    return model


def shifted(rng: np.random.Generator, images: Floats) -> Floats:
    """Each image moved by some pixels."""
    ways = rng.integers(-SHIFT, SHIFT + 1, (len(images), 2))
    moved = [np.roll(image, way, (1, 2)) for image, way in zip(images, ways, strict=True)]
    return np.stack(moved)


def network(model: Classifier) -> Network:
    """Its trunk, as a server takes it."""
    places = [position for position, m in enumerate(MODULES) if isinstance(m, Convolution)]
    arrays: dict[str, Floats] = {}
    for position, weight, bias in zip(places, model.weights, model.biases, strict=True):
        arrays |= {f"features.{position}.weight": weight, f"features.{position}.bias": bias}
    return Network("digits", "sequential", MODULES, arrays, mean=(0.0,), std=(1.0,))


# ------------------------------------------------------------------ pictures


def reconstruct(client: LossClient, loss: Loss, copies: Floats, steps: int) -> Floats:
    """Of each digit the picture that is nearest to its copies (digits, copies, 1, H, W)."""
    found: Floats = copies.mean(axis=1)
    optimiser = Adam(0.02)
    every = copies.reshape(-1, *copies.shape[2:])
    for _ in range(steps):
        given = np.repeat(found, copies.shape[1], axis=0)
        result = client.compute(loss, given, every, reduction="sum", per_example=False)
        derivatives = result.gradients["predictions"].reshape(copies.shape).sum(axis=1)
        optimiser.descend([found], [derivatives])
        np.clip(found, 0, 1, out=found)
    return found


def sharpness(pictures: Floats) -> float:
    """How steep they are from pixel to pixel, where they are steep."""
    down, right = np.diff(pictures, axis=2), np.diff(pictures, axis=3)
    return float((down**2).sum() + (right**2).sum())


def draw(rows: dict[str, Floats], output: Path) -> None:
    """One row a kind of picture, one column a digit."""
    figure, panels = plt.subplots(len(rows), len(next(iter(rows.values()))), squeeze=False)
    for line, (name, pictures) in zip(panels, rows.items(), strict=True):
        for panel, picture in zip(line, pictures, strict=True):
            panel.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
            panel.axis("off")
        line[0].set_title(name, loc="left", fontsize=9)
    figure.set_size_inches(len(panels[0]), 1.3 * len(rows))
    figure.savefig(output, dpi=120, bbox_inches="tight")


def main() -> None:
    """Trains, reconstructs, draws and tells how well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--digits", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("perceptual.png"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    images, labels = digits()
    judge = SVC().fit(images.reshape(len(images), -1), labels)
    chosen = np.arange(arguments.digits)
    copies = np.stack([shifted(rng, images[chosen]) for _ in range(COPIES)], axis=1)
    losses: dict[str, Loss] = {
        "squared error": SquaredError(),
        "perceptual loss": Perceptual(
            network="digits",
            layers=["relu1_1", "relu1_2", "relu2_1"],
            value_range=[0, 1],
            style_weight=STYLE,
        ),
    }
    with running_server() as server, LossClient(server.address) as client:
        model = train(client, arguments.steps)
    rows = {"digits": images[chosen], "one copy": copies[:, 0]}
    with tempfile.TemporaryDirectory() as folder:
        save(folder, network(model))
        with running_server("--networks", folder) as server, LossClient(server.address) as client:
            for name, loss in losses.items():
                rows[name] = reconstruct(client, loss, copies, arguments.steps)
    table = Table("picture", "sharpness", "recognised")
    for name, pictures in rows.items():
        right = (judge.predict(pictures.reshape(len(pictures), -1)) == labels[chosen]).sum()
        ratio = sharpness(pictures) / sharpness(images[chosen])
        table.add_row(name, f"{ratio:.2f}", f"{right} of {len(pictures)}")
    draw(rows, arguments.output)
    Console().print(table)


if __name__ == "__main__":
    main()
