"""The image, as far as it can be checked without a container engine."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from lossd.cli import command, subcommands
from lossd.serving.config import Config, unknown_variables

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
LOCKS = ROOT / "deploy/docker/locks"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]


@dataclass(frozen=True)
class Stage:
    """One stage: what it is made from, and its instructions in order."""

    source: str
    instructions: list[tuple[str, str]]

    def all(self, word: str) -> list[str]:
        return [rest for found, rest in self.instructions if found == word]

    def variables(self) -> dict[str, str]:
        pairs = [pair for line in self.all("ENV") for pair in shlex.split(line)]
        return dict(pair.split("=", 1) for pair in pairs)


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    words = [line.split(maxsplit=1) for line in joined if line.strip()]
    return [(word, rest) for word, rest in words]


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    for word, rest in instructions():
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            found[name] = Stage(source, [])
        elif found:
            list(found.values())[-1].instructions.append((word, rest))
    return found


STAGES = stages()
RUNTIME = STAGES["runtime"]
ARGUMENTS = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")


def test_hadolint_finds_nothing() -> None:
    path = f"{Path(sys.executable).parent}"
    hadolint = shutil.which("hadolint", path=path)
    if hadolint is None:
        pytest.skip("hadolint is not installed beside this Python")
    done = subprocess.run(
        [hadolint, str(DOCKERFILE)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_stage_comes_from_one_pinned_python_that_is_supported() -> None:
    image = ARGUMENTS["PYTHON"]
    pinned = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-\w+@sha256:[0-9a-f]{64}", image)

    assert pinned is not None
    assert f"Programming Language :: Python :: {pinned[1]}" in PROJECT["classifiers"]
    assert {stage.source for stage in STAGES.values()} <= {"${PYTHON}", *STAGES}


def test_both_targets_are_the_runtime_with_an_environment_built_elsewhere() -> None:
    for target in ("cpu", "gpu"):
        assert STAGES[target].source == "runtime"
        assert STAGES[target].all("COPY") == [f"--from=build-{target} /opt/lossd /opt/lossd"]
        assert not STAGES[target].all("RUN")
    assert list(STAGES)[-1] == "cpu"  # what a build without a target makes


def test_it_runs_as_a_number_that_is_not_root() -> None:
    (user,) = RUNTIME.all("USER")

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert not [stage for name, stage in STAGES.items() if name != "runtime" and stage.all("USER")]


def test_its_home_can_be_written_to_under_a_read_only_root() -> None:
    assert RUNTIME.variables()["HOME"] == "/tmp"  # noqa: S108 - which the manifests mount


def test_nothing_at_run_time_takes_a_shell_and_every_command_exists() -> None:
    (entrypoint,), (arguments,) = RUNTIME.all("ENTRYPOINT"), RUNTIME.all("CMD")
    (health,) = RUNTIME.all("HEALTHCHECK")
    checked = json.loads(health.partition(" CMD ")[2])

    assert json.loads(entrypoint) == ["lossd"] == checked[:1]
    for subcommand in (*json.loads(arguments), *checked[1:]):
        assert subcommand in subcommands()


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_its_variables_are_settings_that_the_server_takes(target: str) -> None:
    variables = RUNTIME.variables() | STAGES[target].variables()
    settings = {name: value for name, value in variables.items() if name.startswith("LOSSD_")}

    assert unknown_variables(settings) == []
    assert CliRunner().invoke(command, ["config", "--check"], env=settings).exit_code == 0
    assert settings["LOSSD_METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - of a container
    assert settings["LOSSD_ADDRESS"].startswith("0.0.0.0:")


def test_the_ports_that_it_exposes_are_those_of_the_server() -> None:
    address = RUNTIME.variables()["LOSSD_ADDRESS"]

    assert RUNTIME.all("EXPOSE") == [f"{address.rpartition(':')[2]} {Config().metrics_port}"]


def locked(name: str) -> dict[str, str]:
    """The packages of a lock, with their versions."""
    text = (LOCKS / f"{name}.txt").read_text()
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\S)", text.strip()))
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("extra", ["server", "cuda12", "cuda13"])
def test_a_lock_has_what_its_extra_asks_for(extra: str) -> None:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"]]
    for name in (extra, "jwt", "otel"):  # of what settings ask for, nothing is missing
        wanted += PROJECT["optional-dependencies"][name]
    holds(locked(extra), wanted)


def test_the_page_says_which_extras_the_image_has() -> None:
    beside = runpy.run_path(str(ROOT / "deploy/docker/lock.py"))["BESIDE"]
    extras = [f"`{extra}`" for extra in beside if extra != "--extra"]
    page = (ROOT / "deploy/README.md").read_text()

    assert f"Of the extras it has {' and '.join(extras)}," in page
    assert ("and not `text`" in page) == ("`text`" not in extras)


def test_the_lock_of_the_build_has_what_the_wheel_is_built_with() -> None:
    # The hook imports the declarations of losses, without isolation and from the lock alone.
    holds(locked("build"), SETTINGS["build-system"]["requires"])


def holds(found: dict[str, str], wanted: list[str]) -> None:
    for requirement in map(Requirement, wanted):
        if requirement.name != "lossd":
            version = found[requirement.name.lower().replace("_", "-")]
            assert version in requirement.specifier, requirement.name


def test_a_gpu_changes_nothing_of_what_serves() -> None:
    assert locked("server").items() <= locked("cuda12").items()
    assert locked("server").items() <= locked("cuda13").items()


def test_everything_is_installed_from_a_lock_or_from_the_wheel() -> None:
    for stage in STAGES.values():
        for line in stage.all("RUN"):
            for words in re.findall(r"pip install (.*?)(?: &&|$)", line):
                assert "--require-hashes" in words or "--no-index" in words
    assert set(ARGUMENTS["CUDA"].split()) <= {path.stem for path in LOCKS.iterdir()}


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored, *kept = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    lines = [
        line for name in ("wheel", "build-cpu", "build-gpu") for line in STAGES[name].all("COPY")
    ]
    copied = {
        "deploy/docker/locks" if name.startswith("deploy/docker/locks/") else name
        for line in lines
        if not line.startswith("--from")
        for name in line.split()[:-1]
    }

    assert ignored == "*"
    assert {f"!{name}" for name in copied} == {line for line in kept if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]} <= copied
