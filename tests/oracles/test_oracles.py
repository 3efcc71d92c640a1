"""The oracles themselves: against numbers known from elsewhere, and free of lossd's formulas."""

import ast
from pathlib import Path
from typing import Any

import mpmath
import pytest

from tests.oracles import ORACLES


@pytest.mark.parametrize(
    ("name", "inputs", "value"),
    [
        ("squared_error", {"predictions": (3, 0), "targets": (1, 1)}, 2.5),
        ("absolute_error", {"predictions": (3, 0), "targets": (1, 1)}, 1.5),
        ("huber", {"predictions": (3,), "targets": (1,), "delta": 0.5}, 0.875),
        # log1p(exp(-20)): what float32 libraries round to 0.
        ("cross_entropy", {"predictions": (0, 20), "targets": 1}, 2.061153620314381e-09),
        ("binary_cross_entropy", {"predictions": (20,), "targets": (1,)}, 2.061153620314381e-09),
        ("binary_cross_entropy", {"predictions": (-20,), "targets": (1,)}, 20.000000002061153),
    ],
)
def test_oracles_know_these_numbers(name: str, inputs: dict[str, Any], value: float) -> None:
    exact = {
        key: tuple(mpmath.mpf(x) for x in given) if isinstance(given, tuple) else given
        for key, given in inputs.items()
    }
    assert float(ORACLES[name](**exact)) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("module", ["classification", "regression"])
def test_formulas_do_not_call_lossd(module: str) -> None:
    tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text())
    imported = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    imported += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    assert set(imported) <= {"mpmath", "collections.abc", "typing"}
