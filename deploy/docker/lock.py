"""Locks what the images install, with hashes: ``python deploy/docker/lock.py``, which takes uv.

Images are built from the locks alone, so that two builds of one commit hold the same files.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = Path(__file__).with_name("locks")
PYTHON = "3.13"  # the Dockerfile's
EXTRAS = ("server", "cuda12", "cuda13")  # the last two have the first in them


def compiled(name: str, *source: str) -> None:
    """Writes one lock."""
    fixed = ("--quiet", "--generate-hashes", "--no-header", "--no-annotate")
    machine = ("--python-version", PYTHON, "--python-platform", "linux")
    command = ("uv", "pip", "compile", *fixed, *machine, *source)
    subprocess.run([*command, "--output-file", str(LOCKS / f"{name}.txt")], cwd=ROOT, check=True)


def main() -> None:
    """Writes all locks: one for each extra, and one of what builds the wheel."""
    for extra in EXTRAS:
        compiled(extra, "--extra", extra, "pyproject.toml")
    compiled("build", "deploy/docker/build.in")


if __name__ == "__main__":
    main()
