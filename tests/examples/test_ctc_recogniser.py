"""The example runs where the recogniser is installed: the right transcript costs the least."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "ctc_recogniser.py"


def test_the_right_transcript_costs_the_least() -> None:
    for package in ("onnxruntime", "rapidocr_onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=120, check=True
    )
    rows = re.findall(r"│ .+? │((?: +[\d.]+ +│){5})", done.stdout)
    assert len(rows) == 3
    for row in rows:
        right, *wrong = (float(cell) for cell in re.findall(r"[\d.]+", row))
        assert right + 1 < min(wrong)
