"""The example runs, and its table says what it is there to say."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "digits_embedding.py"


def test_trained_embeddings_are_better_neighbours_than_projected_pixels(tmp_path: Path) -> None:
    picture = tmp_path / "digits.png"
    command = [
        sys.executable,
        str(SCRIPT),
        "--dimensions",
        "3",
        "--steps",
        "80",
        "--picture",
        str(picture),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    rows = dict(re.findall(r"│ (.+?) +│ ([\d.]+) +│", done.stdout))
    found = {name: float(share) for name, share in rows.items()}
    projected = [share for name, share in found.items() if "pixels" in name]
    trained = [share for name, share in found.items() if "after" in name]
    assert (len(projected), len(trained)) == (2, 2)
    assert min(trained) > max(projected) + 0.1
    assert picture.stat().st_size > 10_000
