"""Builds the kernels for the CPU: ``python -m lossd.kernels.host``."""

import argparse
import platform
from pathlib import Path

from lossd.kernels.host._build import BuildError, build
from lossd.kernels.host._library import LIBRARY


def main() -> None:
    """Compiles the texts as they are, for whoever changes one, and for the build of a wheel.

    It leaves a library as it is that the same texts, compiler and flags made.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=LIBRARY, help="where the library goes")
    parser.add_argument("--machine", default=platform.machine(), help="x86_64 or aarch64")
    parser.add_argument("flags", nargs="*", help="more flags for the compiler, after --")
    arguments = parser.parse_args()
    try:
        build(arguments.output, machine=arguments.machine, flags=arguments.flags)
    except BuildError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
