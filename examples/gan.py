"""Generators against critics: eight clusters in the plane, learnt with every objective.

    pip install '.[demo]'
    python examples/gan.py [--steps 4000] [--objectives NON_SATURATING HINGE] [--output gan.png]

Generator and critic are small networks in NumPy, which know how to go backwards and nothing of
losses: what each of them loses, and the gradient with respect to the critic's scores, comes from a
lossd server in a second process.  The picture has what each generator draws in the end beside real
points, the table how far the two are apart (energy distance, 0 where they are equally distributed).
"""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist

from lossd.cli.served import running_server
from lossd.client import LossClient
from lossd.v1 import DiscriminatorLoss, GanObjective, GeneratorLoss

mpl.use("agg")
from matplotlib import pyplot as plt

Floats = npt.NDArray[np.float64]
OBJECTIVES = [name.removeprefix("GAN_OBJECTIVE_") for name in GanObjective.keys()[1:]]
BATCH, NOISE, WIDTH = 128, 8, 64
# Under WASSERSTEIN the critic learns ahead, and its weights are clipped, as its authors do.
CRITIC_STEPS, CLIP = 5, 0.1


def clusters(rng: np.random.Generator, count: int) -> Floats:
    """Points around eight places on a circle."""
    angles = rng.integers(0, 8, count) * (np.pi / 4)
    return 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1) + rng.normal(0, 0.1, (count, 2))


@dataclass
class Network:
    """Layers with leaky rectifiers between them, and Adam."""

    weights: list[Floats]
    biases: list[Floats]
    rate: float
    _steps: int = 0
    _moments: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)

    @classmethod
    def drawn(cls, rng: np.random.Generator, sizes: tuple[int, ...], rate: float) -> "Network":
        """With random weights."""
        pairs = list(itertools.pairwise(sizes))
        weights = [rng.normal(0, np.sqrt(2 / a), (a, b)) for a, b in pairs]
        return cls(weights, [np.zeros(b) for _, b in pairs], rate)

    def forward(self, inputs: Floats) -> list[Floats]:
        """The inputs, what each layer makes of them, and last the outputs."""
        seen = [inputs]
        for position, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            linear = seen[-1] @ weight + bias
            is_last = position == len(self.weights) - 1
            seen.append(linear if is_last else np.where(linear > 0, linear, 0.2 * linear))
        return seen

    def backward(self, seen: list[Floats], gradient: Floats) -> tuple[list[Floats], Floats]:
        """Gradients with respect to weights and biases, and to the inputs."""
        found: list[Floats] = []
        for position in reversed(range(len(self.weights))):
            if position < len(self.weights) - 1:
                gradient = gradient * np.where(seen[position + 1] > 0, 1, 0.2)
            found += [seen[position].T @ gradient, gradient.sum(axis=0)]
            gradient = gradient @ self.weights[position].T
        return found, gradient

    def descend(self, gradients: list[Floats]) -> None:
        """One step of Adam."""
        self._steps += 1
        order = [a for pair in zip(self.weights, self.biases, strict=True) for a in pair]
        places = [p for w in reversed(range(len(self.weights))) for p in (2 * w, 2 * w + 1)]
        for place, gradient in zip(places, gradients, strict=True):
            zero = np.zeros_like(gradient)
            first, second = self._moments.get(place, (zero, zero))
            first, second = 0.5 * first + 0.5 * gradient, 0.99 * second + 0.01 * gradient**2
            self._moments[place] = first, second
            scale = np.sqrt(second / (1 - 0.99**self._steps)) + 1e-8
            order[place] -= self.rate * first / (1 - 0.5**self._steps) / scale


def train(client: LossClient, objective: str, steps: int) -> Callable[[int], Floats]:
    """Trains both players, and returns what draws points."""
    rng = np.random.default_rng(0)
    generator = Network.drawn(rng, (NOISE, WIDTH, WIDTH, 2), 1e-3)
    critic = Network.drawn(rng, (2, WIDTH, WIDTH, 1), 1e-3)
    kind: Any = objective  # a member of GanObjective by its short name
    is_relativistic = objective.startswith("RELATIVISTIC")
    for _ in range(steps):
        for _ in range(CRITIC_STEPS if objective == "WASSERSTEIN" else 1):
            drawn = generator.forward(rng.normal(size=(BATCH, NOISE)))
            real = critic.forward(clusters(rng, BATCH))
            fake = critic.forward(drawn[-1])
            lost = client.compute(
                DiscriminatorLoss(objective=kind), real=real[-1], fake=fake[-1], per_example=False
            )
            of_real, _ = critic.backward(real, lost.gradients["real"])
            of_fake, _ = critic.backward(fake, lost.gradients["fake"])
            critic.descend([a + b for a, b in zip(of_real, of_fake, strict=True)])
            if objective == "WASSERSTEIN":
                for weight in critic.weights:
                    np.clip(weight, -CLIP, CLIP, out=weight)

        fake = critic.forward(drawn[-1])
        given: dict[str, Any] = {"fake": fake[-1]}
        if is_relativistic:
            given["real"] = critic.forward(clusters(rng, BATCH))[-1]
        lost = client.compute(GeneratorLoss(objective=kind), gradients=("fake",), **given)
        _, by_points = critic.backward(fake, lost.gradients["fake"])
        generator.descend(generator.backward(drawn, by_points)[0])
    return lambda count: generator.forward(rng.normal(size=(count, NOISE)))[-1]


def energy_distance(left: Floats, right: Floats) -> float:
    """Twice the mean distance between two sets of points, less that within each."""
    between, *within = (
        cdist(a, b).mean() for a, b in ((left, right), (left, left), (right, right))
    )
    return float(2 * between - sum(within))


def picture(real: Floats, drawn: dict[str, Floats], output: Path) -> None:
    """One panel an objective."""
    figure, panels = plt.subplots(1, len(drawn), figsize=(3 * len(drawn), 3), squeeze=False)
    for panel, (objective, points) in zip(panels[0], drawn.items(), strict=True):
        panel.scatter(*real.T, s=2, c="lightgray")
        panel.scatter(*points.T, s=2)
        panel.set(title=objective.lower().replace("_", " "), xlim=(-3, 3), ylim=(-3, 3), aspect=1)
        panel.axis("off")
    figure.savefig(output, dpi=120, bbox_inches="tight")


def main() -> None:
    """Trains, draws and tells how well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    parser.add_argument("--output", type=Path, default=Path("gan.png"))
    arguments = parser.parse_args()
    real = clusters(np.random.default_rng(1), 1000)
    table = Table("objective", "energy distance before", "after")
    drawn = {}
    with running_server() as server, LossClient(server.address) as client:
        for objective in arguments.objectives:
            before = train(client, objective, 0)(1000)
            drawn[objective] = train(client, objective, arguments.steps)(1000)
            apart = (energy_distance(real, points) for points in (before, drawn[objective]))
            table.add_row(objective, *(f"{distance:.3f}" for distance in apart))
    picture(real, drawn, arguments.output)
    Console().print(table)


if __name__ == "__main__":
    main()
