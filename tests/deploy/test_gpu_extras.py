"""The GPU extras bring every library that CuPy loads."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lossd import selftest
from lossd.backends import cupy as backend
from lossd.engine import Engine
from lossd.networks import Networks, worked_networks

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# The libraries of CUDA that lossd has CuPy load, and the packages that they are in.
LIBRARIES = {"cublas": "nvidia-cublas", "nvrtc": "nvidia-cuda-nvrtc"}
HEADERS = "nvidia-cuda-runtime"
# CuPy's bindings of libraries; of these NVTX, which marks times for a profiler, may be absent.
BINDINGS = re.compile(r"cupy_backends\.cuda\.libs\.(\w+)|cupy\.cuda\.(cufft|jitify)")
MAY_BE_ABSENT = {"nvtx"}

every_extra = pytest.mark.parametrize("extra", ["cuda12", "cuda13"])


@every_extra
def test_an_extra_has_a_package_for_each_library_in_cupys_version_of_cuda(extra: str) -> None:
    version = extra.removeprefix("cuda")
    packages = {*LIBRARIES.values(), HEADERS}
    # Up to CUDA 12 the version is in the name; since then it is that of the package.
    named = {f"{package}-cu12" if version == "12" else f"{package}==13.*" for package in packages}

    assert named <= set(EXTRAS[extra])
    assert f"cupy-{extra}x>=14" in EXTRAS[extra]


@pytest.mark.gpu
def test_every_loss_is_right_and_needs_no_other_library() -> None:
    if not (available := backend.probe()):
        pytest.skip(available.reason)
    engine = Engine(backend.CupyBackend(), Networks(worked_networks()))
    try:
        faults = selftest.faults(engine)
    finally:
        engine.close()
    found = {match for name in sys.modules if (match := BINDINGS.fullmatch(name))}

    assert faults == {}
    assert {match[1] or match[2] for match in found} - MAY_BE_ABSENT == set(LIBRARIES)


@pytest.mark.environments
@every_extra
def test_every_library_resolves_in_an_environment_of_exactly_the_extra(
    extra: str, tmp_path: Path
) -> None:
    home = tmp_path / "environment"
    python = home / "bin/python"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{ROOT}[{extra}]"], check=True)
    # Nothing of this machine's: no toolkit, no stand-ins, no packages of the tests.
    cleared = ("CUDA_", "CUPY_", "GPULAB_", "LD_", "PYTHON")
    environment = {n: value for n, value in os.environ.items() if not n.startswith(cleared)}
    environment["CUPY_CACHE_DIR"] = str(tmp_path / "kernels")

    done = subprocess.run(
        [python, "-I", ROOT / "tests/deploy/gpu_environment.py", *LIBRARIES],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    files = [Path(file) for file in json.loads(done.stdout)]
    assert all(file.is_relative_to(home) for file in files)
    for library in LIBRARIES:
        assert any(file.name.startswith(f"lib{library}.so") for file in files)
