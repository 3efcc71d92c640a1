"""Value and gradient of each loss: lossd's engine on the CPU against PyTorch.

    python benchmarks/compute.py [--loss NAME] [--rounds N] [--quick] [--processor-time]
                                 [--json FILE]

The contenders take turns within every round, and medians are compared, so that a machine that slows
down slows all of them.  Each makes its gradient in fresh memory, as a caller would see it.  "copy"
is a plain read of the inputs and write of the gradient, on all cores.  A loss marked with + is not
PyTorch's own, but put together from its operations (in_pytorch.py); "MiB" is the most memory that
lossd takes beside the inputs, the gradient included.  With --processor-time all numbers are of the
processor's time, of which other work on the machine takes less: that of all of lossd's threads, and
of PyTorch with one.

Soft F1 is about as fast as what is put together from PyTorch's operations: most of its time is that
of one exponential and one quotient an element.  Of the Lovász losses and of pairwise AUC, which
PyTorch has not got, most of the time is that of sorting.
"""

import argparse
import json
import math
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from contenders import Case, Contender, contenders
from in_pytorch import COMPOSED
from rich.console import Console
from rich.table import Table

from lossd.losses import (
    CLASS_AXIS,
    LOSSES,
    DistributionKind,
    GanObjective,
    Loss,
    MulticlassHingeVariant,
    Shape,
)

# The last shape is the one of a quick run.
SHAPES: dict[Shape, list[tuple[int, ...]]] = {
    Shape.POINTWISE: [(4096, 4096), (16 << 20,), (512, 512), (256, 10)],
    Shape.ROWWISE: [(65536, 1000), (4096, 32000), (4096, 1000), (256, 10)],
    Shape.REGIONWISE: [(64, 512, 512), (16384, 1024), (16, 64, 64)],
    Shape.SETWISE: [(1 << 20,), (1 << 17, 16), (4096,)],
    # Examples, frames, classes and labels.
    Shape.SEQUENCE: [(16, 1000, 30, 100), (64, 200, 80, 40)],
    # Examples and components: side by side, and compared with each other.
    Shape.VECTORS: [(65536, 256), (16384, 1024), (256, 64)],
    Shape.COUPLED: [(8192, 256), (2048, 512), (256, 64)],
    # The scores of each side.
    Shape.OPPOSED: [(4 << 20,), (64, 65536), (256,)],
}
# The last axis counts classes.
REGIONS_OF_CLASSES: list[tuple[int, ...]] = [
    (4, 512, 512, 8),
    (2, 64, 64, 4),
]
# Examples of regions of classes, in PyTorch's order and with the classes last.
CLASSES_FIRST: list[tuple[int, ...]] = [(4, 8, 512, 512), (8, 21, 256, 256), (2, 4, 64, 64)]
CLASSES_LAST: list[tuple[int, ...]] = [(4, 512, 512, 8), (8, 256, 256, 21), (2, 64, 64, 4)]
# Parameters, beside the defaults, that make another loss of one.
VARIANTS: dict[str, list[tuple[tuple[str, Any], ...]]] = {
    **{
        name: [(("class_axis", 1),), (("class_axis", -1),)]
        for name in ("dice", "jaccard", "tversky")
    },
    "binary_cross_entropy": [(("prediction_kind", DistributionKind.PROBABILITIES),)],
    "cross_entropy": [(("prediction_kind", DistributionKind.LOG_PROBABILITIES),)],
    "kl_divergence": [
        (("target_kind", DistributionKind.LOG_PROBABILITIES),),
        (("target_kind", DistributionKind.LOGITS),),
        *(
            (("prediction_kind", given), ("target_kind", kind))
            for given in (DistributionKind.LOG_PROBABILITIES, DistributionKind.PROBABILITIES)
            for kind in DistributionKind
        ),
    ],
    "multiclass_hinge": [(("variant", MulticlassHingeVariant.WESTON_WATKINS),)],
    "discriminator_loss": [
        (("objective", objective),)
        for objective in (
            GanObjective.HINGE,
            GanObjective.RELATIVISTIC,
            GanObjective.RELATIVISTIC_AVERAGE,
        )
    ],
}
# PyTorch's threads spin for some milliseconds after their work, on cores that the next one needs.
PAUSE_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Row:
    """Medians in milliseconds, by contender, and the memory that lossd takes."""

    case: Case
    milliseconds: dict[str, float]
    mebibytes: float


def cases(wanted: str | None, *, quick: bool) -> list[Case]:
    """Every loss on its shapes; feature maps have no shape of their own."""
    return [
        Case(loss.name, shape, parameters)
        for loss in LOSSES.values()
        if wanted in (None, loss.name)
        for parameters in ((), *VARIANTS.get(loss.name, []))
        for shape in shapes(loss, dict(parameters))[-1 if quick else 0 :]
    ]


def shapes(loss: Loss, parameters: dict[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of its first input, but for sequences."""
    if "class_axis" in parameters:
        return CLASSES_FIRST if parameters["class_axis"] == 1 else CLASSES_LAST
    if loss.shape is Shape.REGIONWISE and CLASS_AXIS in loss.layout_parameters:
        return REGIONS_OF_CLASSES
    return SHAPES.get(loss.shape, [])


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
    medians = {name: statistics.median(values) for name, values in times.items()}
    return Row(case, medians, present["lossd"].mebibytes())


def check(case: Case, losses: dict[str, float]) -> None:
    """Checks first that what is fast is right."""
    for name, loss in losses.items():
        if name != "copy" and not np.isclose(loss, losses["lossd"], rtol=1e-4):
            raise SystemExit(f"{case.label}: lossd {losses['lossd']}, {name} {loss}")


def show(rows: list[Row]) -> None:
    """Prints the table."""
    others = ("numpy", "eager", "eager kept", "compiled", "compiled kept", "copy")
    table = Table("loss", "shape", "lossd ms", *(f"/ {name}" for name in others), "MiB")
    for row in rows:
        took = row.milliseconds
        table.add_row(
            row.case.label + (" +" if row.case.label in COMPOSED else ""),
            "x".join(map(str, row.case.shape)),
            text(took["lossd"]),
            *(text(took["lossd"], took[name]) if name in took else "" for name in others),
            text(row.mebibytes),
        )
    Console(width=140).print(table)


def text(value: float, base: float = 1) -> str:
    """A time or a ratio as the table shows it."""
    return f"{value / base:.3g}"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loss", choices=list(LOSSES))
    parser.add_argument("--without", nargs="*", default=(), help="contenders to leave out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small shapes only")
    parser.add_argument("--processor-time", action="store_true", help="of all threads")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    present = contenders(arguments.without, processor_time=arguments.processor_time)
    try:
        found = cases(arguments.loss, quick=arguments.quick)
        rows = [measure(present, case, arguments.rounds) for case in found]
    finally:
        for contender in present.values():
            contender.close()
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2, default=str))


if __name__ == "__main__":
    main()
