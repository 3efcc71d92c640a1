"""Compiles the kernels for the host into one shared library.

Needed when lossd is installed, and by whoever changes a text; never at run time.  Nothing here needs
more than NumPy and a C++ compiler.
"""

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lossd.kernels.host._library import LIBRARY, VARIANTS
from lossd.kernels.host._source import TYPES, digest, library_source, template

COMPILERS = ("c++", "g++", "clang++")
# Rounding is the same everywhere: no operation is fused with another, or done in another order.
FLAGS = (
    "-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti",
    "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
# What clang does by itself: loops become vectors, and are compiled once for each case of what they ask
# of parameters.
GCC_FLAGS = (
    "-ftree-vectorize", "-fvect-cost-model=dynamic", "-funswitch-loops",
    "--param", "max-unswitch-insns=5000", "--param", "max-unswitch-level=10",
)  # fmt: skip
LINK_FLAGS = ("-shared", "-Wl,--as-needed", "-Wl,-z,noexecstack")


class BuildError(Exception):
    """There is no library, and why."""


def compiler() -> list[str]:
    """The command of the C++ compiler: that of CXX, or the first that there is.

    Raises:
        BuildError: if there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen:
        return chosen
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise BuildError(f"a C++ compiler must be there, got none of {', '.join(COMPILERS)}")


def build(
    library: Path = LIBRARY, *, machine: str = platform.machine(), flags: Sequence[str] = ()
) -> None:
    """Compiles all kernels for all instruction sets of a machine.

    Raises:
        BuildError: if there is no compiler, or if it fails.
    """
    command = compiler()
    with tempfile.TemporaryDirectory(prefix="lossd-host-") as folder:
        work = Path(folder)
        jobs = []
        for type_name in TYPES:
            source = work / f"{type_name}.cpp"
            source.write_text(library_source(type_name), "utf-8")
            jobs += [
                (source, work / f"{type_name}_{variant}.o", [*options, f"-DVARIANT={variant}"])
                for variant, options in VARIANTS.get(machine, VARIANTS[""]).items()
            ]
        entry = work / "entry.cpp"
        entry.write_text(template("entry.cpp"), "utf-8")
        jobs.append((entry, work / "entry.o", [f'-DDIGEST="{digest()}"']))
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(
                pool.map(
                    lambda job: _run([*command, *FLAGS, *flags, *job[2], "-c", job[0], "-o", job[1]]),
                    jobs,
                )
            )
        objects = [job[1] for job in jobs]
        made = work / library.name
        _run([*command, *LINK_FLAGS, *flags, *objects, "-o", made])
        library.parent.mkdir(parents=True, exist_ok=True)
        # In one step, since a process may have the old one open.
        beside = library.with_name(f".{library.name}.{os.getpid()}")
        shutil.copyfile(made, beside)
        beside.replace(library)


def _run(command: Sequence[str | Path]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} must run, got: {error}") from error
    if done.returncode:
        raise BuildError(f"{shlex.join(map(str, command))} must succeed, got:\n{done.stderr}")
