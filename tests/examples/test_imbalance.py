"""The example runs, and its table says what it is there to say."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "imbalance.py"


def test_each_method_beats_plain_cross_entropy_on_the_metric_it_is_meant_for() -> None:
    command = [sys.executable, str(SCRIPT), "--digits", "1", "--steps", "40"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    rows = [[cell.strip() for cell in row] for row in re.findall(r"│(.+?)│(.+)│", done.stdout)]
    cells = {name: [cell.strip() for cell in rest.split("│")] for name, rest in rows}
    plain = [float(cell) for cell in cells.pop("cross-entropy")]
    assert len(cells) >= 3
    for name, found in cells.items():
        marked = [column for column, cell in enumerate(found) if cell.endswith("*")]
        assert len(marked) == 1, name
        assert float(found[marked[0]].removesuffix("*")) > plain[marked[0]], name
