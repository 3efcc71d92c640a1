"""Completion: what a shell is offered, through its own script."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from lossd.cli import command
from lossd.losses import LOSSES

ROOT = Path(__file__).resolve().parents[2]

# Names that no test completes.
HEARD, TOLD = "what_lossd_heard", "what_it_told"
ASKED = ("COMP_WORDS", "COMP_CWORD", "_LOSSD_COMPLETE")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, whose files may be completed."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answered(folder: Path, *words: str) -> list[str]:
    """Returns what bash offers for the last word.

    Its script runs twice: we hear what it asks lossd, and then it is told what lossd answers here.
    """
    (folder / "lossd.bash").write_text(CliRunner().invoke(command, ["completion", "bash"]).stdout)
    variables = " ".join(f'"${name}"' for name in ASKED)
    program = folder / "lossd"
    program.write_text(f"#!/bin/sh\nprintf '%s\\0' {variables} > {HEARD}\ncat {TOLD}\n")
    program.chmod(0o755)
    (folder / TOLD).touch()
    bash(folder, words)
    heard = (folder / HEARD).read_text().split("\0")
    (folder / TOLD).write_text(told(**dict(zip(ASKED, heard, strict=False))))
    return bash(folder, words)


def bash(folder: Path, words: tuple[str, ...]) -> list[str]:
    """Runs its script for some words and returns what it offers."""
    script = (
        "compopt() { :; }\n"  # bash has it only while a person types
        'source lossd.bash\nCOMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n'
        '_lossd_completion lossd\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.split()


def told(**variables: str) -> str:
    """Returns what lossd answers to the script of a shell."""
    return CliRunner(env=variables).invoke(command, prog_name="lossd").stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("lossd", "comp"), ["completion", "compute"]),
        (("lossd", "compute", "cross"), ["cross_entropy"]),
        (("lossd", "losses", "hub"), ["huber"]),
        (("lossd", "metrics", "roc"), ["roc_auc"]),
        (("lossd", "evaluate", "f"), ["f1", "f_beta"]),
        (("lossd", "compute", "CrossEntropy", "--param", "pred"), ["prediction_kind="]),
        (
            ("lossd", "compute", "cross_entropy", "--param", "prediction_kind", "="),
            ["LOGITS", "LOG_PROBABILITIES", "PROBABILITIES"],
        ),
        (
            ("lossd", "compute", "cross_entropy", "--param", "prediction_kind", "=", "PR"),
            ["PROBABILITIES"],
        ),
        (("lossd", "compute", "poisson_nll", "--param", "full", "=", "t"), ["true"]),
        (("lossd", "compute", "huber", "--input", ""), ["predictions=", "targets="]),
        (("lossd", "compute", "huber", "--input", "targets", "=", "a"), ["a.npy", "a/"]),
        (("lossd", "compute", "huber", "--input", "targets", "=", "a/"), ["a/b.npz"]),
        (("lossd", "evaluate", "f1", "--param", "average", "=", "W"), ["WEIGHTED"]),
        (("lossd", "compute", "info_nce", "--gradient", "t"), ["temperature"]),
        (("lossd", "compute", "no_loss", "--param", ""), []),
    ],
    ids=" ".join,
)
def test_bash_is_offered_what_fits(folder: Path, words: tuple[str, ...], offered: str) -> None:
    (folder / "a").mkdir()
    for name in ("a.npy", "a.png", "a/b.npz"):
        (folder / name).touch()

    assert sorted(answered(folder, *words)) == sorted(offered)


@pytest.mark.parametrize("shell", ["fish", "zsh"])
def test_other_shells_have_a_script_and_whole_words(shell: str) -> None:
    script = CliRunner().invoke(command, ["completion", shell])
    assert (script.exit_code, "_LOSSD_COMPLETE" in script.stdout) == (0, True)

    said = told(
        _LOSSD_COMPLETE=f"{shell}_complete",
        COMP_WORDS="lossd compute cross_entropy --param prediction_kind=PR",
        COMP_CWORD="prediction_kind=PR" if shell == "fish" else "4",
    )
    assert "prediction_kind=PROBABILITIES" in said


def commands_of_the_help() -> str:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(command, ["completion", "--help"]).stdout
    lines = [line.strip() for line in shown.splitlines()]
    return "\n".join(line for line in lines if re.match(r"mkdir|lossd completion \w+ >|echo", line))


def commands_of_the_page() -> str:
    text = (ROOT / "docs/command_line.md").read_text().split("\n## Completion\n")[1]
    return "".join(re.findall(r"```sh\n(.*?)```", text.split("\n## ")[0], re.DOTALL))


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("said", [commands_of_the_help, commands_of_the_page])
def test_it_is_installed_in_a_home_where_nothing_is_yet(
    folder: Path, said: Callable[[], str]
) -> None:
    (folder / "lossd").write_text('#!/bin/sh\necho "$*"\n')
    (folder / "lossd").chmod(0o755)
    subprocess.run(
        ["bash", "-e", "-c", said()],
        env={"HOME": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"},
        timeout=60, check=True,
    )  # fmt: skip

    for shell, file in {
        "bash": ".local/share/bash-completion/completions/lossd",
        "fish": ".config/fish/completions/lossd.fish",
        "zsh": ".zfunc/_lossd",
    }.items():
        assert (folder / file).read_text() == f"completion {shell}\n"
    assert ".zfunc" in (folder / ".zshrc").read_text()


def test_the_program_itself_answers() -> None:
    asked = {"_LOSSD_COMPLETE": "bash_complete", "COMP_WORDS": "lossd heal", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lossd"],
        env={**os.environ, **asked}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "plain,healthcheck\n"


def test_every_loss_is_offered(folder: Path) -> None:
    assert set(answered(folder, "lossd", "compute", "")) == {*LOSSES, "weighted_sum"}
