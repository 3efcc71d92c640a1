"""Whoever lacks what an extra brings is told its name."""

import subprocess
import sys

import pytest

from lossd.client.extras import missing

TO_TORCH = "import numpy; from lossd.client import to_torch; to_torch(numpy.zeros(3))"


@pytest.mark.parametrize(
    ("framework", "code"),
    [
        ("torch", "import lossd.client.torch"),
        ("torch", TO_TORCH),
        ("jax", "import lossd.client.jax"),
    ],
)
def test_an_adapter_without_its_framework_says_what_to_install(framework: str, code: str) -> None:
    hidden = f"import sys; sys.modules[{framework!r}] = None; {code}"
    done = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    said = f"{framework} must be installed, got none: pip install 'lossd[{framework}]'"
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: {said}"


@pytest.mark.parametrize("name", ["filelock", "torch._C"])  # the framework is there, and broken
def test_another_module_that_is_missing_keeps_its_error(name: str) -> None:
    error = ModuleNotFoundError(f"No module named {name!r}", name=name)
    assert missing(error, "torch") is error
