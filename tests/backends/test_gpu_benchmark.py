"""The benchmark of a GPU runs, without one too."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_machine_without_a_gpu_is_told_so() -> None:
    assert run(GPULAB_DEVICES="0", CUDA_VISIBLE_DEVICES="").startswith("no GPU: ")


@pytest.mark.gpu
def test_every_section_gives_rows(fake: Any, tmp_path: Path) -> None:
    del fake  # skips without it
    found, written = tmp_path / "found.json", tmp_path / "table.md"
    run("--smoke", "--only", "card", "copies", "torch", "calls", "ipc",
        "--json", str(found), "--table", str(written))  # fmt: skip
    rows = json.loads(found.read_text())
    assert all(rows[section] for section in ("card", "copies", "torch", "calls", "ipc"))
    assert {row["loss"] for row in rows["calls"]} >= {"cross_entropy", "info_nce", "ctc"}
    assert [row["transport"] for row in rows["ipc"]] == ["shared_memory", "device_memory"] * 3
    assert written.read_text().startswith("## ")
