"""Programs that are started anew: cold starts, and kernels under compute-sanitizer."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from on_gpu.bench import Bench, Row

COLD = """
import time; start = time.perf_counter()
from lossd import selftest
from lossd.backends.cupy import CupyBackend
from lossd.engine import Engine
from lossd.networks import Networks, worked_networks
faults = selftest.faults(Engine(CupyBackend(), Networks(worked_networks())))
print(time.perf_counter() - start, faults)
"""
SANITIZERS = ("memcheck", "racecheck", "initcheck")
SANITIZED = "test_every_variant_equals_numpy and float32 and (cross_entropy or huber or dice)"


def cold(bench: Bench) -> Iterator[Row]:
    """Seconds until every loss is checked, with nothing compiled yet and with everything."""
    if bench.smoke:
        return
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "full"):
            environment = {**os.environ, "CUPY_CACHE_DIR": folder}
            done = subprocess.run(
                [sys.executable, "-c", COLD],
                env=environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
            seconds, _, faults = done.stdout.strip().partition(" ")
            yield {"cache": cache, "seconds": float(seconds), "faults": faults}


def sanitizers(bench: Bench) -> Iterator[Row]:
    """Faults that compute-sanitizer finds in a few kernels, where it is installed."""
    if bench.smoke or shutil.which("compute-sanitizer") is None:
        return
    root = Path(__file__).resolve().parents[2]
    for tool in SANITIZERS:
        done = subprocess.run(
            ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-m",
             "pytest", "-q", "-m", "gpu", "tests/backends/test_cupy.py", "-k", SANITIZED],
            cwd=root, capture_output=True, text=True, check=False,
        )  # fmt: skip
        yield {"tool": tool, "status": done.returncode, "said": done.stdout[-300:]}
