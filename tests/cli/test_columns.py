"""Columns of Parquet and Arrow files: the same numbers as NumPy's, and what is none is told."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lossd.cli import command

SUFFIXES = ("parquet", "arrow", "feather")


def compute(*sources: object) -> Result:
    given = [
        f"--input={name}={source}"
        for name, source in zip(("predictions", "targets"), sources, strict=True)
    ]
    return CliRunner().invoke(command, ["compute", "cross_entropy", *given, "--json"])


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(11).standard_normal((20, 4)).astype(np.float32)


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(12).integers(0, 4, 20)


def write(path: Path, columns: dict[str, Any], rows: int = 7) -> Path:
    """A file with several pieces, whose rows do not end where the pieces of others do."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'arrow' is not installed")
    table = pyarrow.table(columns)
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(table, path, row_group_size=rows)
        return path
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as out:
        out.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["list", "fixed", "tensor"])
def test_rows_of_lists_are_a_matrix(
    tmp_path: Path, logits: np.ndarray, labels: np.ndarray, suffix: str, kind: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'arrow' is not installed")
    made = {
        "list": lambda: pyarrow.array(logits.tolist(), pyarrow.list_(pyarrow.float32())),
        "fixed": lambda: pyarrow.array(list(logits), pyarrow.list_(pyarrow.float32(), 4)),
        "tensor": lambda: pyarrow.FixedShapeTensorArray.from_numpy_ndarray(logits),
    }[kind]()
    path = write(tmp_path / f"batch.{suffix}", {"x": made, "y": labels})
    np.save(tmp_path / "x.npy", logits)
    np.save(tmp_path / "y.npy", labels)
    found = compute(f"{path}:x", f"{path}:y")

    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout) == json.loads(
        compute(tmp_path / "x.npy", tmp_path / "y.npy").stdout
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_array_is_told(
    tmp_path: Path, logits: np.ndarray, labels: np.ndarray, suffix: str
) -> None:
    columns = {
        "x": logits.tolist(), "ragged": [[1.0]] * 19 + [[1.0, 2.0]], "text": ["a"] * 20,
        "holes": [None, *[1.0] * 19], "y": labels,
    }  # fmt: skip
    path = write(tmp_path / f"batch.{suffix}", columns)
    (tmp_path / f"broken.{suffix}").write_bytes(b"nothing")

    for source, said in (
        (f"{path}:ragged", "column ragged must have lists of one length in every row"),
        (f"{path}:text", "column text must hold numbers, got string"),
        (f"{path}:holes", "column holes must have no nulls, got 1"),
        (f"{path}:z", "must name an array of"),
        (path, "must name an array of"),
        (f"{tmp_path}/broken.{suffix}:x", "no column that Arrow can read"),
        (f"{tmp_path}/missing.{suffix}:x", "No such file or directory"),
    ):
        done = compute(source, f"{path}:y")
        assert (done.exit_code, said in done.output) == (2, True), done.output


def test_without_the_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = compute(f"{tmp_path}/x.parquet:x", f"{tmp_path}/x.parquet:y")

    assert done.exit_code == 1
    assert "install it with pip install 'lossd[arrow]'" in done.output
