"""Help: of every command within 80 columns, with the settings where they belong."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lossd.cli import command, subcommands
from lossd.cli.arrays import SAVED
from lossd.cli.columns import PARQUET
from lossd.serving.config import settings


def help_of(*names: str) -> str:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(command, [*names, "--help"])
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("name", ["", *subcommands()])
def test_it_fits_80_columns_and_explains_every_option(name: str) -> None:
    shown = help_of(*name.split())

    assert max(map(len, shown.splitlines())) <= 80
    for option in subcommands()[name].params if name else []:
        if option.param_type_name == "option":
            assert getattr(option, "help", None), option.name


@pytest.mark.parametrize("name", ["", *subcommands()])
def test_no_sentence_and_no_name_is_cut(name: str) -> None:
    usage, *lines = help_of(*name.split()).splitlines()

    assert not [line for line in lines if line.endswith(("...", "-"))], usage
    assert "\\b" not in "".join(lines)  # a mark of click's that it did not understand


def test_the_example_of_compute_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = [line for line in help_of("compute").splitlines() if "lossd compute " in line]
    np.save("x.npy", np.arange(3.0))
    np.savez("batch.npz", y=np.arange(3.0), z=np.ones(2))
    done = CliRunner().invoke(command, shlex.split(example)[1:])

    assert done.exit_code == 0, done.output
    assert re.search(r"│ loss +│ 0 ", done.output)


@pytest.mark.parametrize("name", ["compute", "evaluate"])
def test_the_input_says_every_kind_of_file(name: str) -> None:
    shown = " ".join(help_of(name).split())

    for suffix in (".npy", *SAVED, PARQUET, ".arrow"):
        assert suffix in shown
    assert "stdin" in shown


def test_the_settings_of_serve_are_in_sections() -> None:
    shown = help_of("serve")
    sections = [line for line in shown.splitlines() if line.endswith(":") and line[0] != " "]

    assert len(sections) > 5
    assert sections[-1] == "Options:"
    assert len(shown.partition("\nOptions:")[2].strip().splitlines()) == 1  # --help alone
    for setting in settings():
        assert shown.count(f"  {setting.flag} ") == 1


@pytest.mark.parametrize("name", ["doctor", "config"])
def test_others_take_the_settings_and_do_not_repeat_them(name: str) -> None:
    shown = help_of(name)

    assert "--max-calls" not in shown
    assert "lossd serve --help" in shown
    taken = {option.name for option in subcommands()[name].params}
    assert taken >= {setting.name for setting in settings()}


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_of_settings_is_whole_at(columns: int) -> None:
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(
        command, ["config", "--networks", "/a/path/" * 10]
    )

    assert max(map(len, done.output.splitlines())) <= columns
    assert "…" not in done.output
    for setting in settings():
        assert setting.flag in done.output
        assert (setting.variable in done.output) == (columns == 120)
