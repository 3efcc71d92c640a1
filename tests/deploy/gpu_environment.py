"""Run inside an environment of exactly a GPU extra, without a GPU: loads what CuPy will load there.

Prints, as JSON, the files of the CUDA libraries that are then in the process.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from lossd.backends._compiled import COMPILER_OPTIONS
from lossd.kernels import kernel_source
from lossd.losses import LOSSES

# What every kernel of CuPy's own begins with.
CUPY_HEADERS = "#include <cupy/complex.cuh>\n#include <cupy/carray.cuh>\n"
ARCHITECTURE = "-arch=sm_80"


def compile_with(nvrtc: Any, source: str, options: tuple[str, ...]) -> None:
    """Compiles a program, or fails with what NVRTC says of it."""
    program = nvrtc.createProgram(source, "kernel.cu", [], [])
    try:
        nvrtc.compileProgram(program, (ARCHITECTURE, *options))
    except nvrtc.NVRTCError as error:
        raise SystemExit(f"{error}\n{nvrtc.getProgramLog(program)}") from error


def main(names: list[str]) -> None:
    """Loads the libraries of that name and compiles every kernel."""
    libraries = importlib.import_module("cupy_backends.cuda.libs")
    for name in names:
        getattr(libraries, name)  # loads the library before the module that is linked to it
    nvrtc = libraries.nvrtc
    # Where CuPy looks for headers: its own, and those of CUDA.
    options = cupy._core.core.assemble_cupy_compiler_options(COMPILER_OPTIONS)
    compile_with(nvrtc, CUPY_HEADERS, options)
    for loss in LOSSES.values():
        for text in loss.cuda:
            compile_with(nvrtc, kernel_source(loss, text, np.dtype(np.float32)).source, options)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    files = {line.split(maxsplit=5)[5] for line in maps if ".so" in line}
    cuda = {file for file in files if Path(file).name.startswith(("libcu", "libnv"))}
    print(json.dumps(sorted(cuda)))  # noqa: T201 - that is its reply


if __name__ == "__main__":
    main(sys.argv[1:])
