"""The example runs: the model learns, and by TRL's formula in the same way."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the model is PyTorch's (extra 'oracles')")
SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "token_losses.py"


def rewards(tmp_path: Path, *arguments: str) -> dict[str, tuple[float, float]]:
    """The reward at first and at last, by who computed the loss."""
    output = tmp_path / "curves.svg"
    command = [
        sys.executable,
        str(SCRIPT),
        *arguments,
        "--imitation",
        "60",
        "--output",
        str(output),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert output.read_text().startswith("<?xml")
    rows = re.findall(r"(\w+): reward ([\d.]+) at first, ([\d.]+) at last", done.stdout)
    return {name: (float(first), float(last)) for name, first, last in rows}


def test_rewards_rise_by_grpo_and_as_by_trls_formula(tmp_path: Path) -> None:
    found = rewards(tmp_path, "grpo", "--loss", "both", "--steps", "15")
    assert found["lossd"][1] > found["lossd"][0] + 0.03
    assert found["trl"] == pytest.approx(found["lossd"], abs=0.03)


def test_rewards_rise_by_dpo(tmp_path: Path) -> None:
    found = rewards(tmp_path, "dpo", "--steps", "12")
    assert found["lossd"][1] > found["lossd"][0] + 0.03
