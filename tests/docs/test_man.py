"""The manual pages: one for each command, with every flag, and readable by man."""

import re
import shutil
import subprocess

import click
import pytest

from docs import man
from lossd.cli import subcommands

PAGES = man.pages()
NAMES = sorted(PAGES)


def test_every_command_has_a_page() -> None:
    assert set(PAGES) == {"lossd.1", *(f"lossd-{name}.1" for name in subcommands())}


@pytest.mark.parametrize("name", sorted(subcommands()))
def test_a_page_has_every_flag_that_the_help_shows(name: str) -> None:
    one = subcommands()[name]
    text = PAGES[f"lossd-{name}.1"].replace("\\-", "-")

    shown = [p for p in one.params if isinstance(p, click.Option) and not p.hidden]
    for option in shown:
        assert option.opts[0] in text
        assert option.help
        assert option.help.split("\n")[0][:40].replace("'", "\\(aq") in text


def test_commands_to_copy_have_a_line_each() -> None:
    lines = [line.replace("\\-", "-") for line in PAGES["lossd-completion.1"].splitlines()]

    assert "lossd completion zsh > ~/.zfunc/_lossd" in lines
    assert lines.count(".nf") == lines.count(".fi") == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_formatted_without_a_warning(name: str) -> None:
    roff = shutil.which("groff")
    if roff is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        [roff, "-man", "-Tutf8", "-ww", "-rLL=78n"],
        input=PAGES[name], capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    plain = re.sub(r".\x08|\x1b\[[\d;]*m", "", done.stdout)  # bold, in either way

    assert done.stderr == ""
    assert "EXIT STATUS" in plain
    assert max(map(len, plain.splitlines())) <= 80
