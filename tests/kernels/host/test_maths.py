"""The functions that texts call, over every float32 and much of float64.

The suite looks at one float32 in 1009; python -m tests.kernels.host.test_maths at all of them.
"""

import subprocess
import sys
from pathlib import Path

import pytest

import lossd.kernels.host
from lossd.kernels.host._build import FLAGS, BuildError, compiler

HERE = Path(__file__).parent
TEMPLATES = Path(next(iter(lossd.kernels.host.__path__)))
MOST_UNITS = {
    "exp": 1.0, "expm1": 1.5, "log": 1.0, "log1p": 1.5, "log1p_of_share": 1.5, "tanh": 3.0,
    "exp_of_double": 1.2, "exp_of_small_double": 1.2, "expm1_of_double": 3.0, "log_of_double": 1.0,
    "log1p_of_double": 1.5, "expm1_within": 3.0, "exp_of_narrow": 256.0,
    "expm1_of_narrow": 2048.0,
}  # fmt: skip


def units(folder: Path, step: int) -> dict[str, float]:
    """The worst error of each function over one number in so many."""
    program = folder / "accuracy"
    command = [*compiler(), *FLAGS, f"-I{TEMPLATES}", str(HERE / "accuracy.cpp"), "-lm"]
    subprocess.run([*command, "-o", str(program)], check=True)
    done = subprocess.run([program, str(step)], check=True, capture_output=True, text=True)
    lines = (line.split() for line in done.stdout.splitlines())
    return {name: float(worst) for name, worst, _ in lines}


def test_functions_are_as_right_as_they_say(tmp_path: Path) -> None:
    try:
        found = units(tmp_path, 1009)
    except BuildError as error:
        pytest.skip(str(error))
    assert found.keys() == MOST_UNITS.keys()
    assert {name: worst for name, worst in found.items() if worst > MOST_UNITS[name]} == {}


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as there:
        sys.stdout.write(f"{units(Path(there), 1)}\n")
