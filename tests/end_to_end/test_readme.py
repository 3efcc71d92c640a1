"""The README's programs run as they stand there, against a server of the test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Process

README = Path(__file__).resolve().parents[2] / "README.md"
ADDRESS = "localhost:50051"


def _programs() -> list[str]:
    """The blocks of Python that connect by themselves; others go on where one left off."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    return [block for block in blocks if ADDRESS in block]


@pytest.mark.parametrize("number", range(len(_programs())))
def test_a_program_of_the_readme_runs(server: Process, number: int) -> None:
    program = _programs()[number].replace(ADDRESS, server.address)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_there_are_programs_to_run() -> None:
    assert any("weighted_sum" in program for program in _programs())
