"""The example runs: squared error blurs what the perceptual loss keeps sharp."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "perceptual.py"


def test_the_perceptual_loss_is_sharper_than_squared_error(tmp_path: Path) -> None:
    picture = tmp_path / "perceptual.png"
    command = [
        sys.executable, str(SCRIPT), "--steps", "20", "--digits", "2", "--output", str(picture),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    cells = dict(re.findall(r"│ (\w.+?) +│ +([\d.]+) +│", done.stdout))
    assert float(cells["digits"]) == 1
    assert float(cells["perceptual loss"]) > 1.25 * float(cells["squared error"])
    assert picture.read_bytes().startswith(b"\x89PNG")
