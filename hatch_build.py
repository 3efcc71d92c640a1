"""Compiles the kernels for the CPU when a wheel or an editable install is made.

Without a C++ compiler the package is made all the same, for any machine, and NumPy computes.  With
LOSSD_HOST_KERNELS=require it is not made then; with LOSSD_HOST_KERNELS=none nobody compiles.  The
library that an editable install of the same folder uses stays where it is until another takes its
place: who uses it tells by itself whether it is of these texts.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = Path("server/lossd/kernels/host/_compiled/lossd_host.so")
# python -m lossd.kernels.host with the folder of the package before all else.  PYTHONPATH would not
# do: pip takes from it, in the environment of a build, whatever the environment that it installs
# into knows, so the folder would be gone wherever lossd is installed in place already.
COMMAND = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("lossd.kernels.host", run_name="__main__", alter_sys=True)
"""
SETTING, MACHINE, TAG = "LOSSD_HOST_KERNELS", "LOSSD_HOST_MACHINE", "LOSSD_WHEEL_TAG"


class HostKernelsHook(BuildHookInterface[Any]):
    """See the module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, and says that the wheel is for this machine."""
        del version
        setting = os.environ.get(SETTING, "")
        if setting not in ("", "none", "require"):
            raise ValueError(f"{SETTING} must be none or require, got {setting}")
        if setting == "none":
            return
        machine = os.environ.get(MACHINE, platform.machine())
        failure = self._compile(machine)
        if failure and setting == "require":
            raise RuntimeError(f"the kernels for the CPU must compile, got: {failure}")
        if failure:
            self.app.display_warning(f"No kernels for the CPU, NumPy computes: {failure}")
            return
        build_data["artifacts"].append(str(LIBRARY))
        build_data["pure_python"] = False
        # Any Python opens the library, and nothing of C++ is needed where it runs.
        build_data["tag"] = os.environ.get(TAG, f"py3-none-linux_{machine}")

    def _compile(self, machine: str) -> str:
        """Runs the project's own command, and returns what went wrong."""
        if not sys.platform.startswith("linux"):
            return f"they are for Linux, got {sys.platform}"
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, str(Path(self.root) / "server"), "--machine", machine],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr.strip() if done.returncode else ""
