"""Compiles the kernels for the host into one shared library.

Needed when lossd is installed, and by whoever changes a text; never at run time.  Nothing here
needs more than NumPy and a C++ compiler.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lossd.kernels.host._library import LIBRARY, VARIANTS
from lossd.kernels.host._source import TYPES, digest, entry_source, library_source

COMPILERS = ("c++", "g++", "clang++")
# Rounding is the same everywhere: no operation is fused with another, or done in another order.
FLAGS = (
    "-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti",
    "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
# What clang does by itself: loops become vectors, and are compiled once for each case of what they
# ask of a parameter.  No loop of a block becomes a copy instruction, which is slow to begin.
GCC_FLAGS = (
    "-ftree-vectorize", "-fvect-cost-model=dynamic", "-funswitch-loops", "--param",
    "max-unswitch-insns=5000", "-fno-tree-loop-distribute-patterns",
)  # fmt: skip
LINK_FLAGS = ("-shared", "-s", "-Wl,--as-needed", "-Wl,-z,noexecstack")
# What a library holds for whoever would compile the same again.
_STAMP = "lossd_host_made_from:"


class BuildError(Exception):
    """There is no library, and why."""


def compiler() -> list[str]:
    """Returns the command of the C++ compiler: that of CXX, or the first that there is.

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
    library: Path = LIBRARY,
    *,
    machine: str = platform.machine(),
    flags: Sequence[str] = (),
    variants: Collection[str] | None = None,
    types: Collection[str] = tuple(TYPES),
) -> None:
    """Compiles all kernels, for all instruction sets of a machine, into one library.

    A library that is there stays until then, and for good where the same texts, compiler and flags
    made it.  Of ``variants`` and ``types`` some are enough for a trial.

    Raises:
        BuildError: if there is no compiler, if it fails, or if the machine is not known.
    """
    command = [*compiler(), *FLAGS]
    version = _output([*command, "--version"])
    if "clang" not in version:
        command += GCC_FLAGS
    command += flags
    with tempfile.TemporaryDirectory(prefix="lossd-host-") as folder:
        sources = list(_sources(Path(folder), machine, variants, types))
        stamp = _stamp((*command, *LINK_FLAGS, version), sources)
        if library.is_file() and stamp.encode() in library.read_bytes():
            return
        sources.append(_stamp_source(Path(folder), stamp))
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(lambda source: _output([*command, *source.command]), sources))
        # In one step, since a process may have the old one open.
        library.parent.mkdir(parents=True, exist_ok=True)
        beside = library.with_name(f".{library.name}.{os.getpid()}")
        _output([*command, *LINK_FLAGS, *(source.made for source in sources), "-o", beside])
        beside.replace(library)


@dataclass(frozen=True, slots=True)
class _Source:
    """A file that is compiled by itself."""

    file: Path
    made: Path
    options: tuple[str, ...]

    @property
    def command(self) -> Iterator[str | Path]:
        return iter((*self.options, "-c", self.file, "-o", self.made))


def _sources(
    folder: Path, machine: str, variants: Collection[str] | None, types: Collection[str]
) -> Iterator[_Source]:
    """Yields the sources, the largest first, so that no processor waits for the last."""
    if machine not in VARIANTS:
        raise BuildError(f"machine must be among {', '.join(VARIANTS)}, got {machine}")
    for type_name in types:
        file = folder / f"{type_name}.cpp"
        file.write_text(library_source(type_name), "utf-8")
        for variant, options in VARIANTS[machine].items():
            if variants is not None and variant not in variants:
                continue
            made = folder / f"{type_name}_{variant}.o"
            yield _Source(file, made, (*options, f"-DVARIANT={variant}"))
    entry = folder / "entry.cpp"
    entry.write_text(entry_source(), "utf-8")
    yield _Source(entry, folder / "entry.o", (f'-DDIGEST="{digest()}"',))


def _stamp(command: Sequence[str], sources: Collection[_Source]) -> str:
    """Returns what tells a library from those of other texts, another compiler or other flags."""
    parts = [*command]
    for source in sources:
        parts += (source.made.name, *source.options, source.file.read_text("utf-8"))
    return _STAMP + hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _stamp_source(folder: Path, stamp: str) -> _Source:
    """Returns the source of what a library holds of its stamp."""
    file = folder / "stamp.cpp"
    kept = 'extern "C" __attribute__((visibility("default"), used)) const char'
    file.write_text(f'{kept} lossd_host_stamp[] = "{stamp}";\n', "utf-8")
    return _Source(file, folder / "stamp.o", ())


def _output(command: Sequence[str | Path]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} must run, got: {error}") from error
    if done.returncode:
        raise BuildError(f"{shlex.join(map(str, command))} must succeed, got:\n{done.stderr}")
    return done.stdout
