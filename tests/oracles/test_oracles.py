"""The oracles themselves: against numbers known from elsewhere, and free of lossd's formulas."""

import ast
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import pytest

from tests.oracles import FAMILIES, ORACLES


@pytest.mark.parametrize(
    ("name", "inputs", "value"),
    [
        ("squared_error", {"predictions": (3, 0), "targets": (1, 1)}, 2.5),
        ("absolute_error", {"predictions": (3, 0), "targets": (1, 1)}, 1.5),
        ("huber", {"predictions": (3,), "targets": (1,), "delta": 0.5}, 0.875),
        # log1p(exp(-20)): what float32 libraries round to 0.
        ("cross_entropy", {"predictions": (0, 20), "targets": 1}, 2.061153620314381e-09),
        ("binary_cross_entropy", {"predictions": (20,), "targets": (1,)}, 2.061153620314381e-09),
        # Counts of 1, 1 and 1: a half, a third; with alpha = 1 and beta = 0 a half too.
        ("dice", {"predictions": (2000, 2000, -2000), "targets": (1, 0, 1), "smooth": 0}, 0.5),
        ("jaccard", {"predictions": (2000, 2000, -2000), "targets": (1, 0, 1), "smooth": 0}, 2 / 3),
        (
            "tversky",
            {
                "predictions": (2000, 2000, -2000, -2000),
                "targets": (1, 0, 1, 1),
                "alpha": 1,
                "beta": 0,
                "smooth": 0,
            },
            0.5,
        ),
        # The second is the whole error of a region without others: the Jaccard loss is 1/2 with it.
        ("lovasz_hinge", {"predictions": (5, 1), "targets": (1, 0)}, 1.0),
        ("lovasz_softmax", {"predictions": ((0, 0), (0, 2000)), "targets": (0, 1)}, 0.375),
        ("soft_f1", {"predictions": (2000, 2000, -2000), "targets": (1, 0, 1)}, 0.5),
        # Differences 1/2, -1 and a tie, -3/2.
        ("pairwise_auc", {"predictions": (1, -0.5, 0.5, 1), "targets": (1, 1, 0, 0)}, 11.5 / 4),
        ("binary_cross_entropy", {"predictions": (-20,), "targets": (1,)}, 20.000000002061153),
    ],
)
def test_oracles_know_these_numbers(name: str, inputs: dict[str, Any], value: float) -> None:
    exact = {
        key: _exact(given) if isinstance(given, tuple) else given for key, given in inputs.items()
    }
    assert float(ORACLES[name](**exact)) == pytest.approx(value, rel=1e-15)


def _exact(given: Any) -> Any:
    return tuple(_exact(part) if isinstance(part, tuple) else mpmath.mpf(part) for part in given)


# Each other, and networks, of which they take the numbers.
OWN = {family.__name__ for family in FAMILIES} | {"tests.drawn_networks"}
PLAIN = {"mpmath", "collections", "collections.abc", "functools", "itertools", "typing"}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_formulas_do_not_call_lossd(family: ModuleType) -> None:
    tree = ast.parse(inspect.getsource(family))
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert imported <= PLAIN | OWN


def test_every_family_of_oracles_is_judged() -> None:
    """Those that compare, which take cases of lossd, are tests and their sweeps."""
    folder = Path(__file__).parent
    names = {f"tests.oracles.{path.stem}" for path in folder.glob("[a-z]*.py")}
    sweeps = {f"tests.oracles.{name}" for name in ("margin_examples", "margins", "right_answers")}
    others = {name for name in names if ".test_" in name} | sweeps
    assert names - others == {family.__name__ for family in FAMILIES}
