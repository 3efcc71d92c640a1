"""Value and gradient of each loss: lossd's engine on the CPU against PyTorch.

    python benchmarks/compute.py [--loss NAME] [--rounds N] [--quick] [--json FILE]

The contenders take turns within every round, and medians are compared, so that a machine that slows
down slows all of them.  Each makes its gradient in fresh memory, as a caller would see it.  "copy"
is a plain read of the inputs and write of the gradient.
"""

import argparse
import json
import math
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from contenders import Case, Contender, contenders
from rich.console import Console
from rich.table import Table

from lossd.losses import LOSSES, Shape

# By whether a loss is of rows of classes and whether the run is to be quick.
SHAPES: dict[tuple[bool, bool], list[tuple[int, ...]]] = {
    (True, False): [(65536, 1000), (4096, 32000), (256, 10)],
    (True, True): [(1024, 1000), (256, 10)],
    (False, False): [(4096, 4096), (16 << 20,), (256, 10)],
    (False, True): [(512, 512), (256, 10)],
}
# Examples, frames, classes and labels.
SEQUENCES = [(64, 200, 80, 40), (16, 1000, 30, 100)]
# Examples and components: side by side, and compared with each other.
VECTORS = [(256, 64), (65536, 256)]
COMPARED = [(256, 64), (2048, 512), (8192, 256)]
# PyTorch's threads spin for some milliseconds after their work, on cores that the next one needs.
PAUSE_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Row:
    """Medians in milliseconds, by contender."""

    case: Case
    milliseconds: dict[str, float]


def cases(wanted: str | None, *, quick: bool) -> list[Case]:
    """Every loss on its shapes."""
    found = []
    for loss in LOSSES.values():
        if wanted not in (None, loss.name):
            continue
        if loss.shape is Shape.SEQUENCE:
            found += [Case(loss.name, shape) for shape in SEQUENCES[: 1 if quick else None]]
        if loss.shape in (Shape.VECTORS, Shape.COUPLED):
            shapes = VECTORS if loss.shape is Shape.VECTORS else COMPARED
            found += [Case(loss.name, shape) for shape in shapes[: 1 if quick else None]]
        if loss.shape not in (Shape.POINTWISE, Shape.ROWWISE):
            continue  # the others have shapes of their own
        of_rows = loss.shape is Shape.ROWWISE
        found += [Case(loss.name, shape) for shape in SHAPES[of_rows, quick]]
    return found


def measure(present: dict[str, Contender], case: Case, rounds: int) -> Row:
    """Times the contenders in turns."""
    answers = {name: contender.prepare(case) for name, contender in present.items()}
    losses = {name: loss for name, loss in answers.items() if loss is not None}
    check(case, losses)
    repetitions = max(3, (1 << 16) // math.prod(case.shape))
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(rounds):
        for name in losses:
            time.sleep(PAUSE_SECONDS)
            times[name].append(present[name].milliseconds(repetitions))
    return Row(case, {name: statistics.median(values) for name, values in times.items()})


def check(case: Case, losses: dict[str, float]) -> None:
    """What is fast has to be right first."""
    for name, loss in losses.items():
        if name != "copy" and not np.isclose(loss, losses["lossd"], rtol=1e-4):
            raise SystemExit(f"{case.loss}: lossd {losses['lossd']}, {name} {loss}")


def show(rows: list[Row]) -> None:
    """Prints the table."""
    times = ("lossd ms", "eager ms", "compiled ms")
    ratios = ("eager / lossd", "compiled / lossd", "lossd / copy")
    table = Table("loss", "shape", *times, *ratios)
    for row in rows:
        took = row.milliseconds
        table.add_row(
            row.case.loss,
            "x".join(map(str, row.case.shape)),
            *(text(took.get(name)) for name in ("lossd", "eager", "compiled")),
            *(text(took.get(name), took["lossd"]) for name in ("eager", "compiled")),
            text(took["lossd"], took["copy"]),
        )
    Console(width=120).print(table)


def text(value: float | None, base: float = 1) -> str:
    """A time or a ratio as the table shows it."""
    return "none" if value is None else f"{value / base:.3g}"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loss", choices=list(LOSSES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small shapes only")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    present = contenders()
    try:
        found = cases(arguments.loss, quick=arguments.quick)
        rows = [measure(present, case, arguments.rounds) for case in found]
    finally:
        for contender in present.values():
            contender.close()
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
