"""Checks wheels before anybody gets them: python deploy/check_wheels.py WHEEL...

A package index refuses the tag ``linux_x86_64``, and a wheel for any machine is one whose kernels
nobody compiled.  A tag such as ``manylinux_2_17_x86_64`` promises a machine and a C library.
"""

import re
import struct
import sys
import zipfile
from pathlib import Path

LIBRARY = "lossd/kernels/host/_compiled/lossd_host.so"
_TAG = re.compile(r"-manylinux_(\d+)_(\d+)_(x86_64|aarch64)\.whl$")
_MACHINES = {"x86_64": 62, "aarch64": 183}  # as ELF numbers them
_GLIBC = re.compile(rb"GLIBC_(\d+)\.(\d+)")


def fault(wheel: Path) -> str:
    """Returns what is wrong with a wheel, or an empty text."""
    tag = _TAG.search(wheel.name)
    if tag is None:
        return "name must end in -manylinux_A_B_x86_64.whl or -manylinux_A_B_aarch64.whl"
    *most, machine = int(tag[1]), int(tag[2]), tag[3]
    with zipfile.ZipFile(wheel) as files:
        if LIBRARY not in files.namelist():
            return f"wheel must hold {LIBRARY}"
        library = files.read(LIBRARY)
    (number,) = struct.unpack_from("<H", library, 18)
    if number != _MACHINES[machine]:
        return f"kernels must be for {machine}, got ELF machine {number}"
    needed = max(([int(a), int(b)] for a, b in _GLIBC.findall(library)), default=most)
    if needed > most:
        return "kernels must need glibc {}.{} at most, got {}.{}".format(*most, *needed)
    return ""


def main() -> None:
    """Checks the wheels that the command names."""
    wheels = [Path(name) for name in sys.argv[1:]]
    faults = [f"{wheel}: {found}" for wheel in wheels if (found := fault(wheel))]
    if faults or not wheels:
        sys.exit("\n".join(faults) or "wheels must be named, got none")


if __name__ == "__main__":
    main()
