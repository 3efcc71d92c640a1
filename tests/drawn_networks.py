"""Networks with random weights, for the tests: of any modules, and a small one for contracts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lossd.networks import (
    Convolution,
    Fire,
    Heads,
    Module,
    Network,
    Networks,
    save,
    worked_networks,
)


def drawn(
    name: str,
    modules: Sequence[Module],
    widths: Sequence[int],
    kernels: Sequence[int] = (),
    *,
    architecture: str = "sequential",
    channels: int = 3,
    heads: Sequence[str] = (),
    seed: int = 0,
) -> Network:
    """A network whose convolutions have so many outputs; a fire a quarter of it to squeeze into.

    ``kernels`` are those of the convolutions, 3 where there are fewer.
    """
    rng = np.random.default_rng(seed)
    sizes, sides = iter(widths), iter(kernels)
    weights: dict[str, np.ndarray] = {}
    counts = {}
    given = channels

    def convolution(key: str, outputs: int, inputs: int, side: int) -> None:
        spread = np.sqrt(2 / (inputs * side**2))
        shape = (outputs, inputs, side, side)
        weights[f"{key}weight"] = rng.normal(0, spread, shape).astype(np.float32)
        weights[f"{key}bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)

    for position, module in enumerate(modules):
        key = f"features.{position}."
        if isinstance(module, Convolution):
            width = next(sizes)
            convolution(key, width, given, next(sides, 3))
            given = width
        elif isinstance(module, Fire):
            width = next(sizes)
            few, half = width // 4, width // 2
            convolution(f"{key}squeeze.", few, given, 1)
            convolution(f"{key}expand1x1.", half, few, 1)
            convolution(f"{key}expand3x3.", half, few, 3)
            given = width
        counts[module.name] = given
    numbers = tuple(rng.uniform(0, 1, counts[layer]).astype(np.float32) for layer in heads)
    return Network(
        name=name,
        architecture=architecture,
        modules=tuple(modules),
        weights=weights,
        mean=(0.485, 0.456, 0.406)[:channels],
        std=(0.229, 0.224, 0.225)[:channels],
        heads=Heads(tuple(heads), numbers) if heads else None,
    )


def smooth() -> Network:
    """A network without a kink, of one channel, which the contracts of the catalogue look through.

    Even of an image of one pixel something is left behind it.
    """
    modules = (Convolution("first", padding=1), Convolution("second", padding=1))
    return drawn("smooth", modules, (3, 2), channels=1, heads=("first", "second"), seed=1)


def save_worked(folder: Path) -> None:
    """Writes the networks that the losses' own examples are worked with, as a server loads them."""
    for network in worked_networks().values():
        save(folder, network)


NETWORKS = Networks({**worked_networks(), "smooth": smooth()})
