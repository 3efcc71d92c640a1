"""lossd on the GPU of this machine: copies, every kernel, PyTorch beside them, whole calls.

    python benchmarks/gpu.py [--only SECTION ...] [--json FILE] [--table FILE] [--smoke]

Prints "no GPU" where there is none.  A section that fails is reported, and the next one runs.
Times are medians.  Those of kernels are the device's own, as a share of what a copy within its
memory moves in the same time: 1 is as fast as reading all inputs and writing all results once.
``--json`` keeps all numbers, ``--table`` writes the tables for docs/performance.md under the card's
name, and ``--smoke`` takes tiny batches, to try the program out.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from on_gpu.bench import Bench, Row
from on_gpu.calls import calls
from on_gpu.copies import card, copies
from on_gpu.ipc import ipc
from on_gpu.kernels import kernels
from on_gpu.pytorch import torch
from on_gpu.starts import cold, sanitizers

from lossd.backends import cupy as backend

SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "card": card, "copies": copies, "kernels": kernels, "torch": torch, "calls": calls,
    "ipc": ipc,
    "cold": cold, "sanitizers": sanitizers,
}  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """Returns rows as a table in Markdown."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "/").strip()


def main() -> int:
    """Runs the sections; fails if one of them did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    available = backend.probe()
    if available.device is None:
        print(f"no GPU: {available.reason}")
        return 0
    bench = Bench(backend._import_cupy(), asked.smoke, {})  # noqa: SLF001 - its only import
    written, failed = [f"## {available.device}"], False
    for name in asked.only:
        rows = bench.results.setdefault(name, [])
        try:
            for row in SECTIONS[name](bench):
                rows.append(row)
                if asked.json:
                    asked.json.write_text(json.dumps(bench.results, indent=1, default=str))
        except Exception as error:  # noqa: BLE001 - the other sections still count
            failed = True
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
        if rows:
            written.append(f"### {name}\n\n{table(rows)}")
            print(written[-1], end="\n\n", flush=True)
    if asked.table:
        asked.table.write_text("\n\n".join(written) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
