"""Completion: what a shell is offered, through its own script."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lossd.cli import command
from lossd.losses import LOSSES


def answered(tmp_path: Path, *words: str) -> list[str]:
    """Returns what bash would offer for the last word."""
    script = tmp_path / "lossd.bash"
    script.write_text(CliRunner().invoke(command, ["completion", "bash"]).stdout)
    (tmp_path / "lossd").write_text(f'#!/bin/sh\nexec {sys.executable} -m lossd "$@"\n')
    (tmp_path / "lossd").chmod(0o755)
    asked = (
        "compopt() { :; }\n"  # bash has it only while a person types
        f'source {script}\nCOMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n'
        '_lossd_completion lossd\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", asked, "bash", *words],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.split()


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
def test_bash_is_offered_what_fits(tmp_path: Path, words: tuple[str, ...], offered: str) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a.npy", "a.png", "a/b.npz"):
        (tmp_path / name).touch()

    assert sorted(answered(tmp_path, *words)) == sorted(offered)


@pytest.mark.parametrize("shell", ["fish", "zsh"])
def test_other_shells_have_a_script_and_whole_words(
    shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = CliRunner().invoke(command, ["completion", shell])
    assert (script.exit_code, "_LOSSD_COMPLETE" in script.stdout) == (0, True)
    for name, value in {
        "_LOSSD_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "lossd compute cross_entropy --param prediction_kind=PR",
        "COMP_CWORD": "prediction_kind=PR" if shell == "fish" else "4",
    }.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-c", "from lossd.cli import command; command(prog_name='lossd')"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "prediction_kind=PROBABILITIES" in done.stdout, done


def test_every_loss_is_offered(tmp_path: Path) -> None:
    assert set(answered(tmp_path, "lossd", "compute", "")) == {*LOSSES, "weighted_sum"}
