"""The commands that the documents show do what they say."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lossd.cli import command

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
TYPED = [
    line
    for block in BLOCK.findall((ROOT / "docs/command_line.md").read_text())
    for line in block.splitlines()
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(8)
    logits = random.standard_normal((50, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = random.integers(0, 4, 50)
    for name, array in {
        "logits": logits, "labels": labels, "probabilities": shares, "weights": random.random(50),
    }.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "batch.npz", logits=logits, labels=labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", TYPED)
def test_a_command_of_the_documents_works(folder: Path, line: str) -> None:
    program, *arguments = shlex.split(line)
    done = CliRunner(env={"COLUMNS": "80"}).invoke(command, arguments)

    assert program == "lossd"
    assert done.exit_code == 0, done.output
    assert done.stdout.strip()
    assert "--json" in arguments or max(map(len, done.stdout.splitlines())) <= 80
    if "--output" in arguments:
        assert (folder / arguments[-1]).exists()
