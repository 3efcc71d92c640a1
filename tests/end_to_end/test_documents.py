"""The programs of the documents run as they stand there, against a server of the test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Process

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "localhost:50051"


def _programs() -> dict[str, str]:
    """Returns the blocks of Python; one that needs more than a server is marked py."""
    found = {}
    for document in sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")]):
        blocks = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
        for number, block in enumerate(blocks):
            found[f"{document.stem}-{number}"] = block
    return found


PROGRAMS = _programs()


def outputs(program: str) -> list[str]:
    """Returns what stands below each call of print: what it prints, with … for further digits."""
    return re.findall(r"^ *print\(.*\)\n *# (.*)$", program, re.MULTILINE)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_a_document_runs(server: Process, name: str) -> None:
    program = PROGRAMS[name].replace(ADDRESS, server.address)
    for framework in re.findall(r"^import (torch|jax)$", program, re.MULTILINE):
        pytest.importorskip(framework)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    said = outputs(program)
    for line, wanted in zip(done.stdout.splitlines(), said, strict=True) if said else ():
        assert re.fullmatch(re.escape(wanted).replace("…", r"\d*"), line.rstrip()), line


def test_there_are_programs_to_run() -> None:
    assert any("weighted_sum" in program for program in PROGRAMS.values())
    assert all(outputs(PROGRAMS[name]) for name in PROGRAMS if name.startswith("README-"))
