"""The plot of a page: there where the extra is installed, and within the terminal."""

import sys

import pytest
from click.testing import CliRunner

from lossd.cli import command
from lossd.cli.terminal_plot import plot_text
from lossd.losses import LOSSES, Shape

POINTWISE = [loss.name for loss in LOSSES.values() if loss.shape is Shape.POINTWISE]


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_pointwise_loss_is_drawn(name: str, columns: int) -> None:
    pytest.importorskip("uniplot", reason="needs the extra plot")
    lines = plot_text(LOSSES[name], columns).splitlines()
    shown = CliRunner(env={"COLUMNS": str(columns)}).invoke(command, ["losses", name]).output

    assert "loss over prediction" in lines[0]
    assert any("gradient over prediction" in line for line in lines)
    assert any("target" in line for line in lines)
    assert max(map(len, shown.partition("On the command line")[0].splitlines())) <= columns
    assert lines[4] in shown


@pytest.mark.parametrize("columns", [1, 8, 13, 23, 24])
def test_a_narrow_terminal_has_a_plot_only_where_it_fits(columns: int) -> None:
    pytest.importorskip("uniplot", reason="needs the extra plot")
    shown = CliRunner(env={"COLUMNS": str(columns)}).invoke(command, ["losses", "huber"])
    assert shown.exit_code == 0, shown.exception
    assert bool(plot_text(LOSSES["huber"], columns)) == (columns >= 24)


def test_others_have_none_and_so_has_whoever_lacks_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert plot_text(LOSSES["dice"], 80) == ""
    monkeypatch.setitem(sys.modules, "uniplot", None)
    assert plot_text(LOSSES["huber"], 80) == ""
    shown = CliRunner().invoke(command, ["losses", "huber"])
    assert (shown.exit_code, "Plot" in shown.output) == (0, False)
