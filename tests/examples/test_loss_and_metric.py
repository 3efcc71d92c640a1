"""The example runs, and its table says what it is there to say."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "loss_and_metric.py"


def test_the_lowest_loss_and_the_best_f1_are_of_different_models() -> None:
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    head = re.search(r"┃ model (.+)┃", done.stdout)
    assert head is not None
    names = [cell.strip() for cell in head[1].split("┃")[1:]]
    rows = [
        dict(zip(names, map(float, row.split("│")), strict=True))
        for row in re.findall(r"│[^│\n]+│(.+)│", done.stdout)
    ]
    chance, *trained = rows
    plain, weighted, _ = trained
    assert plain == min(trained, key=lambda model: model["cross-entropy"])
    assert plain == max(trained, key=lambda model: model["accuracy"])
    assert plain == min(trained, key=lambda model: model["recall"])
    assert weighted == max(trained, key=lambda model: model["F1"])
    assert max(model["ROC AUC"] for model in trained) - plain["ROC AUC"] < 0.001
    assert (chance["F1"], chance["ROC AUC"]) == (0.0, 0.5)
