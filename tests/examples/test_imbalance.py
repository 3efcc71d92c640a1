"""The example runs, and its table says what it is there to say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "imbalance.py"


Rows = dict[str, list[str]]


@pytest.fixture(scope="module")
def tables() -> list[Rows]:
    """By name, the cells of each row of both tables."""
    command = [sys.executable, str(SCRIPT), "--digits", "1", "--steps", "40"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = []
    for text in done.stdout.split("┏")[1:]:
        rows = [
            re.split(r" *│ *", row.strip("│ ")) for row in re.findall(r"^│.+│$", text, re.MULTILINE)
        ]
        found.append({name: cells for name, *cells in rows})
    return found


def test_each_method_beats_plain_cross_entropy_on_the_metric_it_is_meant_for(
    tables: list[Rows],
) -> None:
    cells = dict(tables[0])
    plain = [float(cell) for cell in cells.pop("cross-entropy")]
    assert len(cells) >= 3
    for name, found in cells.items():
        marked = [column for column, cell in enumerate(found) if cell.endswith("*")]
        assert len(marked) == 1, name
        assert float(found[marked[0]].removesuffix("*")) > plain[marked[0]], name


def test_losses_of_pairs_rank_better(tables: list[Rows]) -> None:
    pairs = {name: cells for name, cells in tables[1].items() if name.startswith("pairwise AUC")}
    assert len(pairs) == 2
    plain = float(tables[1]["cross-entropy"][0])
    for name, (area, gain, _spread, least, won) in pairs.items():
        assert float(gain) > 0.01, name
        assert float(gain) == pytest.approx(float(area) - plain, abs=1.1e-3)
        assert won in ("2 of 3", "3 of 3")
        assert (won == "3 of 3") == (float(least) > 0)
