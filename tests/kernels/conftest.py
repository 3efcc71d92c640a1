"""Executes kernels on the host, and the cases they are executed on."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.kernels import Kernel, Launch
from tests.kernels.cases import Execute

HERE = Path(__file__).parent

_FLAGS = ("-std=c++17", "-O1", "-fPIC")
_WARNINGS = ("-Wall", "-Werror", "-Wno-unknown-pragmas")
_LAUNCHER = """
extern "C" int launch_{0}(unsigned blocks, unsigned threads, unsigned rows, void** arguments) {{
    return simt::launch(blocks, threads, rows, {0}, arguments);
}}
"""
# As much as a block can have on any device.
_ON_CHIP = "alignas(16) thread_local Chunk on_chip[227 << 6];"


class _Simt:
    """Kernels compiled by the C++ compiler, each once for all processes that share a folder."""

    def __init__(self, compiler: str, folder: Path) -> None:
        self._compiler = compiler
        self._folder = folder
        self._libraries: dict[str, ctypes.CDLL] = {}
        # Read once for all kernels: this saves a third of the time of each.
        self._made("simt.h.gch", HERE / "simt.h", "-w", "-x", "c++-header")

    def __call__(self, kernel: Kernel, launch: Launch, arguments: tuple[Any, ...]) -> None:
        packed = [_packed(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(packed))(*map(ctypes.addressof, packed))
        run = getattr(self.library(kernel), f"launch_{launch.name}")
        done = run(launch.blocks, launch.threads, launch.rows, pointers)
        assert done == 0, "threads parted at a barrier"

    def library(self, kernel: Kernel) -> ctypes.CDLL:
        """The library that a kernel is in."""
        if kernel.source not in self._libraries:
            self._libraries[kernel.source] = self._compile(kernel)
        return self._libraries[kernel.source]

    def _compile(self, kernel: Kernel) -> ctypes.CDLL:
        launchers = [_LAUNCHER.format(name) for name in kernel.names]
        on_chip = [_ON_CHIP] if "on_chip" in kernel.source else []
        text = "\n".join(['#include "simt.h"', kernel.source, *on_chip, *launchers])
        name = hashlib.sha256(text.encode()).hexdigest()
        source = self._folder / f"{os.getpid()}-{name}.cpp"
        source.write_text(text)
        return ctypes.CDLL(str(self._made(f"{name}.so", source, *_WARNINGS, "-shared")))

    def _made(self, name: str, source: Path, *flags: str) -> Path:
        """Returns a file of the folder, which is compiled if it is not there."""
        path = self._folder / name
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=self._folder) as own:
                made = Path(own, name)
                folders = (f"-I{self._folder}", f"-I{HERE}")
                command = [self._compiler, *_FLAGS, *folders, *flags, str(source), "-o", str(made)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
                made.rename(path)
        return path


def _packed(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    return (ctypes.c_char * argument.nbytes).from_buffer_copy(argument.tobytes())


@pytest.fixture(scope="session")
def simt(tmp_path_factory: pytest.TempPathFactory) -> Execute:
    """Executes a kernel's unmodified source through ``simt.h``."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of the run
    (folder / "simt").mkdir(exist_ok=True)
    return _Simt(compiler, folder / "simt")


@pytest.fixture
def ignoring_float_errors() -> Iterator[None]:
    """NaN and infinity are data here."""
    with np.errstate(all="ignore"):
        yield
