"""``lossd losses --plot``: the drawing that follows from the declarations."""

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lossd.backends.numpy import NumpyBackend
from lossd.cli import charts, command
from lossd.engine import Engine
from lossd.losses import LOSSES, Loss, Shape

POINTWISE = [loss for loss in LOSSES.values() if loss.shape is Shape.POINTWISE]


def test_the_plot_is_a_picture_of_every_pointwise_loss(tmp_path: Path) -> None:
    path = tmp_path / "losses.svg"
    drawn = CliRunner().invoke(command, ["losses", "--plot", str(path)])

    assert (drawn.exit_code, drawn.output) == (0, f"{len(POINTWISE)} losses in {path}\n")
    picture = path.read_text()
    for loss in POINTWISE:  # the letters of an SVG are outlines; its comments say what they draw
        assert f"<!-- {loss.message} -->" in picture
    assert picture.count("<!-- gradient -->") == len(POINTWISE)


def test_a_picture_may_be_a_png(tmp_path: Path) -> None:
    path = tmp_path / "losses.png"

    assert CliRunner().invoke(command, ["losses", "--plot", str(path)]).exit_code == 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("loss", POINTWISE, ids=lambda loss: loss.name)
def test_what_is_drawn_as_gradient_is_the_slope_of_the_curve(loss: Loss) -> None:
    engine = Engine(NumpyBackend(threads=1))
    drawn = charts.curves(engine, loss)
    engine.backend.close()

    assert len({curve.target for curve in drawn}) == len(drawn) > 0
    for curve in drawn:
        areas = np.diff(curve.predictions) * (curve.derivatives[1:] + curve.derivatives[:-1]) / 2
        climbed = curve.values[0] + np.concatenate([[0], np.cumsum(areas)])
        np.testing.assert_allclose(curve.values, climbed, rtol=0.01, atol=0.02)


@pytest.mark.parametrize(
    ("name", "extra"), [("losses", "plot"), ("bench", "plot"), ("demo", "demo")]
)
def test_without_matplotlib_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tmp_path / "losses.png"
    refused = CliRunner().invoke(command, [name, "--plot", str(path)])

    assert refused.exit_code == 1
    assert f"install it with pip install 'lossd[{extra}]'" in refused.output
    assert not path.exists()


def test_a_format_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    refused = CliRunner().invoke(command, ["losses", "--plot", str(tmp_path / "losses.tuna")])

    assert refused.exit_code == 2
    assert "Invalid value for '--plot'" in refused.output
    assert "tuna" in refused.output
