"""A perceptual loss and its gradient with respect to pixels: lossd on the CPU against PyTorch.

    python benchmarks/networks.py [--shape 4 3 224 224] [--rounds N] [--profile]

The network is VGG16 up to relu3_3 with random weights; both judge the same images.  The
contenders take turns within every round, and medians are compared.  ``--profile`` tells where the
engine's time goes, on one thread.
"""

import argparse
import cProfile
import pstats
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from contenders import Case, Contender, Run
from rich.console import Console
from rich.table import Table

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.crew import usable_cores
from lossd.engine import Engine
from lossd.losses import LOSSES
from lossd.networks import ARCHITECTURES, Convolution, Network, Networks
from lossd.serving.process.allocator import keep_freed_memory

# PyTorch's threads spin for some milliseconds after their work, on cores that the next one needs.
PAUSE_SECONDS = 0.1
WIDTHS = (64, 64, 128, 128, 256, 256, 256)
LAYER = "relu3_3"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def weights() -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Weights and biases of each convolution, the same in every process."""
    random = np.random.default_rng(0)
    found, given = [], 3
    for width in WIDTHS:
        weight = random.standard_normal((width, given, 3, 3), np.float32)
        found.append((weight * np.float32((2 / (9 * given)) ** 0.5), np.zeros(width, np.float32)))
        given = width
    return found


def network() -> Network:
    """Returns the network that lossd looks through."""
    modules = ARCHITECTURES["vgg16"]()
    modules = modules[: 1 + [module.name for module in modules].index(LAYER)]
    places = [position for position, m in enumerate(modules) if isinstance(m, Convolution)]
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    for position, (weight, bias) in zip(places, weights(), strict=True):
        arrays |= {f"features.{position}.weight": weight, f"features.{position}.bias": bias}
    return Network("vgg", "sequential", modules, arrays, MEAN, STD)


def lossd_runs(threads: int) -> Callable[[Case], Run]:
    """The mean and its gradient, as the server computes them."""
    keep_freed_memory()
    engine = Engine(NumpyBackend(threads), Networks({"vgg": network()}))

    def prepare(case: Case) -> Run:
        job = Job(
            loss=LOSSES[case.loss],
            parameters={"network": "vgg", "layers": (LAYER,), "value_range": (0.0, 1.0)},
            inputs={name: [array] for name, array in case.inputs().items()},
            per_example=False,
        )
        return lambda: engine.run(job).loss or 0.0

    return prepare


def torch_runs(threads: int) -> Callable[[Case], Run]:
    """The same in PyTorch, eagerly: targets without a graph, and no gradient of the weights."""
    import torch  # noqa: PLC0415 - an oracle, not a requirement

    torch.set_num_threads(threads)
    layers: list[torch.nn.Module] = []
    for position, (weight, bias) in enumerate(weights()):
        if position in (2, 4):  # behind the first two blocks
            layers.append(torch.nn.MaxPool2d(2, 2))
        layer = torch.nn.Conv2d(weight.shape[1], len(weight), 3, padding=1)
        layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
        layers += [layer, torch.nn.ReLU(inplace=True)]
    trunk = torch.nn.Sequential(*layers).requires_grad_(requires_grad=False)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))

    def prepare(case: Case) -> Run:
        given, truth = (torch.from_numpy(array) for array in case.inputs().values())
        given.requires_grad_()

        def run() -> float:
            given.grad = None
            with torch.no_grad():
                wanted = trunk((truth - mean) / std)
            loss: Any = torch.nn.functional.mse_loss(trunk((given - mean) / std), wanted)
            loss.backward()
            return float(loss.detach())

        return run

    return prepare


def measure(case: Case, rounds: int, threads: int) -> dict[str, float]:
    """Median milliseconds of each contender; what is fast has to be right first."""
    setups = {"lossd": lossd_runs, "eager": torch_runs}
    present = {
        name: Contender(name, partial(setup, threads), time.perf_counter)
        for name, setup in setups.items()
    }
    try:
        losses = {name: contender.prepare(case) for name, contender in present.items()}
        if not np.isclose(losses["lossd"] or 0, losses["eager"] or 1, rtol=1e-4):
            raise SystemExit(f"losses must be equal, got {losses}")
        times: dict[str, list[float]] = {name: [] for name in present}
        for _ in range(rounds):
            for name, contender in present.items():
                time.sleep(PAUSE_SECONDS)
                times[name].append(contender.milliseconds(1))
    finally:
        for contender in present.values():
            contender.close()
    return {name: statistics.median(values) for name, values in times.items()}


def profile(case: Case) -> None:
    """Prints where the time goes, on one thread."""
    run = lossd_runs(1)(case)
    run()
    profiler = cProfile.Profile()
    profiler.runcall(run)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(12)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", type=int, nargs=4, default=(4, 3, 224, 224))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    case = Case("perceptual", tuple(arguments.shape))
    table = Table("shape", "threads", "lossd ms", "eager ms", "lossd / eager")
    for threads in sorted({1, usable_cores()}):
        took = measure(case, arguments.rounds, threads)
        numbers = (took["lossd"], took["eager"], took["lossd"] / took["eager"])
        shape = "x".join(map(str, case.shape))
        table.add_row(shape, str(threads), *(f"{number:.3g}" for number in numbers))
    Console(width=100).print(table)
    if arguments.profile:
        profile(case)


if __name__ == "__main__":
    main()
