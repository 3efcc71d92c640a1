"""Wheels that may not be published are refused by ``deploy/check_wheels.py``."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "lossd/kernels/host/_compiled/lossd_host.so"
MACHINES = {"x86_64": 62, "aarch64": 183}
GOOD = "lossd-1.0-py3-none-manylinux_2_17_x86_64.whl"


def wheel(path: Path, *, machine: str = "x86_64", names: str = "GLIBC_2.2.5 GLIBC_2.17") -> Path:
    """A wheel whose library has the head of an ELF file and names of versions."""
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + b"\3\0" + MACHINES[machine].to_bytes(2, "little")
    with zipfile.ZipFile(path, "w") as files:
        files.writestr(LIBRARY, head + names.replace(" ", "\0").encode() + b"\0")
    return path


def check(*wheels: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "deploy/check_wheels.py"), *map(str, wheels)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_wheels_of_each_machine_pass(tmp_path: Path) -> None:
    arm = tmp_path / GOOD.replace("x86_64", "aarch64")
    done = check(wheel(tmp_path / GOOD), wheel(arm, machine="aarch64", names=""))

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("tag", ["linux_x86_64", "linux_aarch64", "any", "manylinux_2_17_ppc64le"])
def test_a_name_that_an_index_refuses_or_that_has_no_kernels_is_refused(
    tmp_path: Path, tag: str
) -> None:
    done = check(wheel(tmp_path / GOOD), wheel(tmp_path / f"lossd-1.0-py3-none-{tag}.whl"))

    assert done.returncode == 1
    assert f"{tag}.whl: name must end in -manylinux_" in done.stderr
    assert GOOD not in done.stderr


def test_what_a_wheel_holds_must_be_what_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / GOOD
    assert "got glibc" not in check(wheel(path, names="GLIBC_2.9")).stderr
    assert "2.17 at most, got 2.28" in check(wheel(path, names="GLIBC_2.4 GLIBC_2.28")).stderr
    assert "for x86_64, got ELF machine 183" in check(wheel(path, machine="aarch64")).stderr
    zipfile.ZipFile(path, "w").close()
    assert f"must hold {LIBRARY}" in check(path).stderr
    assert check().returncode == 1


@pytest.mark.parametrize("script", [".ci/release", "deploy/wheels"])
def test_wheels_are_checked_where_they_are_made(script: str) -> None:
    text = (ROOT / script).read_text()

    assert "deploy/check_wheels.py" in text
    assert "LOSSD_HOST_KERNELS=require" in text or "bash deploy/wheels" in text
    if shutil.which("bash"):
        subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
