"""``remote_loss`` gives what JAX's own losses do where arrays lie on several devices."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.conftest import Process

pytest.importorskip("jax", minversion="0.10")
from tests.training.jax_on_two_devices import CASES

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def told(server: Process) -> dict[str, Any]:
    """The numbers of all cases, from a process that has two devices."""
    command = sys.executable, "-m", "tests.training.jax_on_two_devices", server.address
    flags = "--xla_force_host_platform_device_count=2"
    run = subprocess.run(
        command,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_jax_on_two_devices(
    told: dict[str, Any], name: str
) -> None:
    assert not isinstance(told[name], str), told[name]
    ours, theirs = told[name]
    assert len(ours) == len(theirs) > 0
    for mine, expected in zip(ours, theirs, strict=True):
        assert np.any(expected)
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)
