"""Locks what the images install, with hashes: ``python deploy/docker/lock.py``, which takes uv.

Images are built from the locks alone, so that two builds of one commit hold the same files.
"""

import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = Path(__file__).with_name("locks")
PYTHON = "3.13"  # the Dockerfile's
EXTRAS = ("server", "cuda12", "cuda13")  # the last two have the first in them
# What settings of the server ask for beside: --jwks and --tracing.
BESIDE = ("--extra", "jwt", "--extra", "otel")


def compiled(name: str, *source: str, given: str = "") -> None:
    """Writes one lock; ``given`` is what ``-`` stands for among the sources."""
    fixed = ("--quiet", "--generate-hashes", "--no-header", "--no-annotate")
    machine = ("--python-version", PYTHON, "--python-platform", "linux")
    command = ("uv", "pip", "compile", *fixed, *machine, *source)
    command = (*command, "--output-file", str(LOCKS / f"{name}.txt"))
    subprocess.run(command, cwd=ROOT, check=True, input=given, text=True)


def main() -> None:
    """Writes all locks: one for each extra, and one of what builds the wheel."""
    for extra in EXTRAS:
        compiled(extra, "--extra", extra, *BESIDE, "pyproject.toml")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    compiled("build", "-", given="\n".join(settings["build-system"]["requires"]))


if __name__ == "__main__":
    main()
