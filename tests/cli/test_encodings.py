"""Terminals whose encoding lacks characters: everything is printed all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lossd.cli import top_text

ENCODINGS = ("ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift_jis", "utf-8")


def printed(encoding: str, *arguments: str) -> str:
    """Returns what the command prints in an encoding, on 60 columns."""
    done = subprocess.run(
        [sys.executable, "-m", "lossd", *arguments],
        capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "60"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    # For ASCII click takes UTF-8, since hardly anybody means it.
    return done.stdout.decode("utf-8" if encoding == "ascii" else encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_list_and_a_page_are_printed_in_any_encoding(encoding: str) -> None:
    lines = printed(encoding, "losses").splitlines()
    assert max(map(len, lines)) <= 60
    assert {line[-1] for line in lines if line.endswith((" ...", " …", "?"))} < {".", "…"}

    assert "On the command line" in printed(encoding, "losses", "huber")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_table_with_cells_that_are_cut_is_printed_too(encoding: str) -> None:
    measured = printed(
        encoding, "bench", "--seconds=0.1", "--transport=unix", "--shape=4x3", "--callers=1"
    )
    assert "cross" in measured


def test_a_bar_has_blocks_where_the_terminal_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def bar(encoding: str) -> str:
        with Path(os.devnull).open("w", encoding=encoding) as terminal:
            monkeypatch.setattr(sys, "stdout", terminal)
            return top_text._bar(0.5).plain

    assert bar("utf-8") == "█" * 12 + "░" * 12
    assert bar("cp437") == "█" * 12 + "░" * 12
    assert bar("latin-1") == bar("ascii") == "#" * 12 + "-" * 12
