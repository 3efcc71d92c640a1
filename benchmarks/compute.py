"""Value and gradient of each loss: lossd's engine on the CPU against PyTorch in the same process.

    python benchmarks/compute.py [--loss NAME] [--rounds N] [--quick] [--json FILE]
                                 [--default-allocator]

The contenders take turns within every round, and medians are compared, so that a machine that slows
down slows all of them.  Each makes its gradient in fresh memory, as a caller would see it.  "copy"
is a plain read of the inputs and write of the gradient: nothing can be faster.
"""

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES, Holds, Loss
from lossd.serving.allocator import keep_freed_memory
from lossd.serving.config import usable_cores

Array = npt.NDArray[Any]
Contender = Callable[[], float]  # computes once and returns the loss

CLASS_SHAPES = [(65536, 1000), (4096, 32000), (256, 10)]
ELEMENT_SHAPES = [(4096, 4096), (16 << 20,), (256, 10)]
QUICK_CLASS_SHAPES = [(1024, 1000), (256, 10)]
QUICK_ELEMENT_SHAPES = [(512, 512), (256, 10)]
# PyTorch's threads spin for some milliseconds after their work, on cores that the next one needs.
PAUSE_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Case:
    """One loss on one shape."""

    loss: Loss
    predictions: Array
    targets: Array


@dataclass(frozen=True, slots=True)
class Row:
    """Medians in milliseconds; None for what is not installed."""

    loss: str
    shape: tuple[int, ...]
    lossd: float
    eager: float | None
    compiled: float | None
    copy: float


def cases(wanted: str | None, *, quick: bool) -> list[Case]:
    """Every loss on its shapes."""
    random = np.random.default_rng(0)
    found = []
    for loss in LOSSES.values():
        if wanted not in (None, loss.name):
            continue
        is_classes = loss.input("targets").holds is Holds.CLASSES
        shapes = (
            (QUICK_CLASS_SHAPES if quick else CLASS_SHAPES)
            if is_classes
            else (QUICK_ELEMENT_SHAPES if quick else ELEMENT_SHAPES)
        )
        for shape in shapes:
            predictions = random.standard_normal(shape, np.float32)
            targets = (
                random.integers(0, shape[-1], shape[:-1])
                if is_classes
                else random.random(shape, np.float32)
            )
            found.append(Case(loss, predictions, targets))
    return found


def lossd_contender(engine: Engine, case: Case) -> Contender:
    """The mean and its gradient, as the server computes them."""
    job = Job(
        loss=case.loss,
        parameters={},
        inputs={"predictions": [case.predictions], "targets": [case.targets]},
        per_example=False,
    )
    return lambda: engine.run(job).loss or 0.0


def torch_functions() -> dict[str, Callable[[Any, Any], Any]]:
    """PyTorch's own version of each loss."""
    from torch.nn import functional  # noqa: PLC0415 - an oracle, not a requirement

    return {
        "squared_error": functional.mse_loss,
        "absolute_error": functional.l1_loss,
        "huber": functional.huber_loss,
        "cross_entropy": functional.cross_entropy,
        "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
    }


def torch_contender(case: Case, *, compiled: bool) -> Contender | None:
    """Forward and backward in PyTorch."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch  # noqa: PLC0415 - an oracle, not a requirement

    torch.set_num_threads(usable_cores())
    function = torch_functions()[case.loss.name]
    if compiled:
        torch.compiler.reset()  # else a dozen shapes count as one function that keeps changing
        function = torch.compile(function, dynamic=False)
    predictions = torch.from_numpy(case.predictions).requires_grad_()
    targets = torch.from_numpy(case.targets)

    def run() -> float:
        predictions.grad = None
        loss = function(predictions, targets)
        loss.backward()
        return float(loss.detach())

    return run


def copy_contender(case: Case) -> Contender:
    """Reads the inputs and writes as many bytes as the gradient has, without computing."""

    def run() -> float:
        out = np.empty_like(case.predictions)
        np.copyto(out, case.predictions)
        if case.targets.shape == case.predictions.shape:
            case.targets.max()
        return 0.0

    return run


def measure(engine: Engine, case: Case, rounds: int) -> Row:
    """Times the contenders in turns."""
    contenders = {
        "lossd": lossd_contender(engine, case),
        "eager": torch_contender(case, compiled=False),
        "compiled": torch_contender(case, compiled=True),
        "copy": copy_contender(case),
    }
    present = {name: run for name, run in contenders.items() if run is not None}
    check(case, {name: run() for name, run in present.items() if name != "copy"})
    inner = max(1, (1 << 16) // case.predictions.size)
    times: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(rounds):
        for name, run in present.items():
            times[name].append(timed(run, inner))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return Row(
        case.loss.name,
        case.predictions.shape,
        medians["lossd"],
        medians.get("eager"),
        medians.get("compiled"),
        medians["copy"],
    )


def timed(run: Contender, repetitions: int) -> float:
    """Milliseconds of one run."""
    time.sleep(PAUSE_SECONDS)
    started = time.perf_counter()
    for _ in range(repetitions):
        run()
    return (time.perf_counter() - started) / repetitions * 1e3


def check(case: Case, losses: dict[str, float]) -> None:
    """What is fast has to be right first; also the first run of each, which compiles."""
    for name, loss in losses.items():
        if not np.isclose(loss, losses["lossd"], rtol=1e-4):
            raise SystemExit(f"{case.loss.name}: lossd {losses['lossd']}, {name} {loss}")


def milliseconds(value: float | None) -> str:
    """A time as the table shows it."""
    return "not installed" if value is None else f"{value:.3g}"


def ratio(value: float | None, base: float) -> str:
    """How many times slower than lossd."""
    return "" if value is None else f"{value / base:.2f}"


def show(rows: list[Row]) -> None:
    """Prints the table."""
    times = ("lossd ms", "eager ms", "compiled ms")
    ratios = ("eager / lossd", "compiled / lossd", "lossd / copy")
    table = Table("loss", "shape", *times, *ratios)
    for row in rows:
        table.add_row(
            row.loss,
            "x".join(map(str, row.shape)),
            milliseconds(row.lossd),
            milliseconds(row.eager),
            milliseconds(row.compiled),
            ratio(row.eager, row.lossd),
            ratio(row.compiled, row.lossd),
            f"{row.lossd / row.copy:.2f}",
        )
    Console(width=120).print(table)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loss", choices=list(LOSSES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small shapes only")
    parser.add_argument(
        "--default-allocator",
        action="store_true",
        help="without the server's setting, which speeds PyTorch up too",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not arguments.default_allocator:
        keep_freed_memory()
    engine = Engine(NumpyBackend(usable_cores()))
    found = cases(arguments.loss, quick=arguments.quick)
    rows = [measure(engine, case, arguments.rounds) for case in found]
    show(rows)
    if arguments.json:
        records = [{name: getattr(row, name) for name in Row.__slots__} for row in rows]
        arguments.json.write_text(json.dumps(records, indent=2))


if __name__ == "__main__":
    main()
