"""The example runs: with every objective the generator comes nearer, and there is a picture."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "gan.py"


def test_every_objective_brings_the_generator_nearer(tmp_path: Path) -> None:
    output = tmp_path / "gan.png"
    command = [sys.executable, str(SCRIPT), "--steps", "20", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    rows = re.findall(r"│ ([A-Z_]+) +│ ([\d.]+) +│ ([\d.]+) +│", done.stdout)
    assert len(rows) == 7
    for objective, before, after in rows:
        assert float(after) < float(before), objective
    assert output.read_bytes().startswith(b"\x89PNG")
