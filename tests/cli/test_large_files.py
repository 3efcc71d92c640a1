"""Files that are read in pieces: the numbers of the whole, in memory that does not grow with it."""

import contextlib
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from lossd.cli import batches, command, text_lines
from tests.cli.test_columns import write
from tests.end_to_end.conftest import serve

ROWS = 1000


def run(*arguments: object) -> Any:
    done = CliRunner().invoke(command, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has pieces be of some rows, from when it is called."""

    def do() -> None:
        monkeypatch.setattr(batches, "WHOLE_BYTES", 0)
        monkeypatch.setattr(batches, "PIECE_BYTES", 3000)

    return do


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(7)
    arrays: dict[str, Any] = {
        "x": random.standard_normal((ROWS, 4)).astype(np.float32),
        "y": random.integers(0, 4, ROWS),
        "left": random.standard_normal((ROWS, 3)),
        "right": random.standard_normal((ROWS, 3)),
        "w": random.random(ROWS).astype(np.float32),
        "m": random.random(ROWS) < 0.8,
    }
    arrays["half"] = arrays["x"].astype(ml_dtypes.bfloat16)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    save_file(arrays, tmp_path / "all.safetensors")
    return tmp_path


def same(found: Any, wanted: Any) -> None:
    """Compares reports, whose sums were added in another order."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, dict):
            same(found[name], value)
        elif isinstance(value, float | int | list) and value and name != "terms":
            np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)
        else:
            assert found[name] == value, name


def saved(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    with np.load(path) as archive:
        return dict(archive)


def inputs(**sources: object) -> list[str]:
    return [f"--input={name}={source}" for name, source in sources.items()]


CASES = {
    "mean": ("cross_entropy", {"predictions": "x.npy", "targets": "y.npy"}),
    "kinds of files": (
        "cross_entropy", {"predictions": "all.safetensors:x", "targets": "packed.npz:y"},
    ),
    "stored": ("cross_entropy", {"predictions": "plain.npz:x", "targets": "all.safetensors:y"}),
    "bfloat16": ("cross_entropy", {"predictions": "half.npy", "targets": "all.safetensors:y"}),
    "packed": ("cross_entropy", {"predictions": "all.safetensors:half", "targets": "y.npy"}),
    "elements": ("huber", {"predictions": "left.npy", "targets": "right.npy"}),
    "vectors": (
        "triplet", {"anchor": "left.npy", "positive": "right.npy", "negative": "plain.npz:left"},
    ),
}  # fmt: skip
OPTIONS = {
    "mean": ["--weights={0}/w.npy", "--mask={0}/m.npy", "--param=class_weights=1,2,2,5"],
    "elements": ["--reduction=batch_mean", "--mask={0}/packed.npz:m"],
    "vectors": ["--reduction=sum", "--weights={0}/w.npy"],
    "stored": ["--reduction=none"],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_pieces_merge_to_the_whole(
    folder: Path, cut: Callable[[], None], case: str, suffix: str
) -> None:
    loss, sources = CASES[case]
    given = inputs(**{name: folder / source for name, source in sources.items()})
    given += [one.format(folder) for one in OPTIONS.get(case, [])]
    whole = run("compute", loss, *given, "--output", folder / f"whole.{suffix}")
    cut()
    pieces = run("compute", loss, *given, "--output", folder / f"pieces.{suffix}")

    same(pieces, whole)
    wanted, found = (saved(folder / f"{name}.{suffix}") for name in ("whole", "pieces"))
    assert set(found) == set(wanted) > {"per_example"}
    for name in wanted:
        assert found[name].dtype == wanted[name].dtype
        if wanted[name].dtype.kind == "V":
            assert found[name].tobytes() == wanted[name].tobytes()  # a single rounding of each
        else:
            np.testing.assert_allclose(
                found[name].astype(np.float64), wanted[name].astype(np.float64), 1e-5, 1e-12
            )


def test_examples_of_pieces_have_their_places_in_the_whole(
    folder: Path, cut: Callable[[], None]
) -> None:
    values = np.load(folder / "left.npy")
    values[[3, 777]] = np.inf
    np.save(folder / "left.npy", values)
    given = inputs(predictions=folder / "left.npy", targets=folder / "right.npy")
    cut()

    assert run("compute", "huber", *given)["statuses"] == {"3": "NONFINITE", "777": "NONFINITE"}


def test_where_nothing_is_kept_the_loss_is_zero(folder: Path, cut: Callable[[], None]) -> None:
    np.save(folder / "m.npy", np.zeros(ROWS, bool))
    cut()
    given = inputs(predictions=folder / "x.npy", targets=folder / "y.npy")
    found = run("compute", "cross_entropy", *given, f"--mask={folder}/m.npy")

    assert (found["loss"], found["example_count"], found["ignored_count"]) == (0, 0, ROWS)
    assert found["gradient_norms"] == {"predictions": 0}


@pytest.mark.parametrize("loss", ["info_nce", "soft_f1"])
def test_what_compares_examples_is_computed_whole(
    folder: Path, cut: Callable[[], None], loss: str
) -> None:
    names = {"info_nce": ("queries", "keys"), "soft_f1": ("predictions", "targets")}[loss]
    np.save(folder / "right.npy", np.load(folder / "right.npy") > 0)
    right = folder / ("right.npy" if loss == "soft_f1" else "left.npy")
    given = inputs(**dict(zip(names, (folder / "left.npy", right), strict=True)))
    whole = run("compute", loss, *given)
    cut()

    assert run("compute", loss, *given) == whole


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss"])
def test_metrics_of_pieces_are_those_of_the_whole(
    folder: Path, cut: Callable[[], None], metric: str
) -> None:
    given = inputs(predictions=folder / "x.npy", targets=f"{folder}/plain.npz:y")
    given += [f"--weights={folder}/w.npy", f"--mask={folder}/all.safetensors:m"]
    given += ["--param=multiclass=ONE_VS_REST"] if metric == "roc_auc" else []
    whole = run("evaluate", metric, *given)
    cut()

    assert run("evaluate", metric, *given) == whole


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_columns_are_read_in_pieces(folder: Path, cut: Callable[[], None], suffix: str) -> None:
    given = inputs(predictions=folder / "x.npy", targets=folder / "y.npy")
    whole = run("compute", "cross_entropy", *given)
    columns = {"x": np.load(folder / "x.npy").tolist(), "y": np.load(folder / "y.npy")}
    path = write(folder / f"batch.{suffix}", columns, rows=77)
    cut()

    same(
        run("compute", "cross_entropy", *inputs(predictions=f"{path}:x", targets=f"{path}:y")),
        {**whole, "gradient_norms": whole["gradient_norms"]},
    )


def test_a_server_is_sent_pieces(folder: Path, cut: Callable[[], None]) -> None:
    given = inputs(predictions=folder / "x.npy", targets=folder / "y.npy")
    whole = run("compute", "cross_entropy", *given)
    cut()
    with serve("--backend", "numpy") as server:
        same(run("compute", "cross_entropy", *given, "--address", server.address), whole)


def test_a_mistake_in_a_later_piece_is_told(folder: Path, cut: Callable[[], None]) -> None:
    labels = np.load(folder / "y.npy")
    labels[900] = 7
    np.save(folder / "y.npy", labels)
    (folder / "short.npy").write_bytes((folder / "x.npy").read_bytes()[:-5])
    cut()
    done = CliRunner().invoke(
        command,
        [
            "compute",
            "cross_entropy",
            *inputs(predictions=folder / "x.npy", targets=folder / "y.npy"),
        ],
    )
    cut_short = CliRunner().invoke(
        command,
        ["compute", "huber", *inputs(predictions=folder / "short.npy", targets=folder / "x.npy")],
    )

    assert done.exit_code == cut_short.exit_code == 2
    assert "targets[25] must be in [0, 4), got 7 (counted from row 875)" in done.output
    assert "no array that NumPy can read" in cut_short.output


@pytest.fixture
def mistaken(folder: Path) -> Path:
    labels, weights = np.load(folder / "y.npy"), np.load(folder / "w.npy")
    labels[900], weights[950] = 7, -1
    np.save(folder / "bad.npy", labels)
    np.save(folder / "less.npy", weights)
    np.save(folder / "wide.npy", np.zeros((ROWS, 5), np.float32))
    return folder


RIGHT = ("--input=predictions={0}/x.npy", "--input=targets={0}/y.npy")
# Their pieces have 125 rows; with weights 107.
MISTAKES = {
    "a label": (
        ["--input=predictions={0}/x.npy", "--input=targets={0}/bad.npy"],
        "targets[25] must be in [0, 4), got 7 (counted from row 875)",
    ),
    "in the second batch": (
        [*RIGHT, *RIGHT, "--input=predictions={0}/x.npy", "--input=targets={0}/bad.npy"],
        "targets[25] must be in [0, 4), got 7 (in batch 3 of 3, counted from row 875)",
    ),
    "of another width": (
        [*RIGHT, "--input=predictions={0}/wide.npy", "--input=targets={0}/y.npy"],
        "the number of classes, labels or outputs, got 4 and 5 (in batch 2 of 2)",
    ),
    "a weight": (
        [*RIGHT, "--weights={0}/less.npy"],
        "weights[94] must be in [0, inf), got -1.0 (counted from row 856)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("has_server", [False, True], ids=["here", "on a server"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_later_piece_is_told_by_evaluate(
    mistaken: Path, cut: Callable[[], None], mistake: str, *, has_server: bool
) -> None:
    options, said = MISTAKES[mistake]
    given = ["evaluate", "accuracy", *(one.format(mistaken) for one in options)]
    cut()
    with serve("--backend", "numpy") if has_server else contextlib.nullcontext() as server:
        address = [] if server is None else ["--address", server.address]
        done = CliRunner().invoke(command, [*given, *address])

    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())


@pytest.mark.parametrize("has_server", [False, True], ids=["here", "on a server"])
def test_texts_that_do_not_go_together_are_counted_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_server: bool
) -> None:
    np.save(tmp_path / "m.npy", np.ones(ROWS, bool))
    (tmp_path / "said.txt").write_text("one two\n" * ROWS)
    (tmp_path / "more.txt").write_text("one two\n" * (ROWS + 1))
    monkeypatch.setattr(text_lines, "_LINES", 100)
    with serve("--backend", "numpy") if has_server else contextlib.nullcontext() as server:
        address = [] if server is None else ["--address", server.address]

        def refused(*arguments: str) -> str:
            given = ["evaluate", "word_error_rate", *arguments, *address]
            done = CliRunner().invoke(command, [one.format(tmp_path) for one in given])
            assert done.exit_code == 2, done.output
            return " ".join(done.output.split())

        files = ["--input=hypotheses={0}/said.txt", "--input=references={0}/said.txt"]
        longer = ["--input=hypotheses={0}/more.txt", files[1]]
        uneven = refused(*longer)
        later = refused(*files, *longer)
        masked = refused(longer[0], "--input=references={0}/more.txt", "--mask={0}/m.npy")

    assert "references must be given for each of 1001 hypotheses, got 1000" in uneven
    assert "1001 hypotheses, got 1000 (in batch 2 of 2)" in later
    assert "mask must be given for each of 1001 hypotheses, got 1000" in masked


def test_a_mask_from_a_pipe_goes_with_pieces_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "m.npy", np.arange(ROWS) % 3 == 0)
    (tmp_path / "said.txt").write_text("one two\none three\n" * (ROWS // 2))
    (tmp_path / "meant.txt").write_text("one two\n" * ROWS)
    files = inputs(hypotheses=tmp_path / "said.txt", references=tmp_path / "meant.txt")
    given = ["evaluate", "word_error_rate", *files, "--json"]
    monkeypatch.setattr(text_lines, "_LINES", 100)
    mask = (tmp_path / "m.npy").read_bytes()
    piped = CliRunner().invoke(command, [*given, "--mask=-"], input=mask)

    assert piped.exit_code == 0, piped.output
    assert json.loads(piped.stdout) == run(*given[:-1], "--mask", tmp_path / "m.npy")


LIMITED = """
import resource, sys
from lossd.cli import command
sys.modules["cupy"] = None  # to look for a GPU takes memory where its libraries are installed
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # what the system cannot take back
command()
"""
FILE_BYTES = 1 << 30
LIMIT = 320 << 20


def sparse(path: Path, shape: tuple[int, ...], dtype: Any) -> Path:
    """A file of zeros that takes no room."""
    np.lib.format.open_memmap(path, "w+", dtype, shape)
    return path


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_DATA"), reason="needs a limit of memory")
@pytest.mark.parametrize("work", ["compute", "evaluate"])
def test_a_file_larger_than_the_memory(tmp_path: Path, work: str) -> None:
    rows = FILE_BYTES // 1024
    logits = sparse(tmp_path / "x.npy", (rows, 256), np.float32)
    labels = sparse(tmp_path / "y.npy", (rows,), np.int64)
    name = {"compute": "cross_entropy", "evaluate": "accuracy"}[work]
    arguments = [work, name, *inputs(predictions=logits, targets=labels)]
    arguments += ["--reduction=sum"] if work == "compute" else ["--json"]  # one pass
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(LIMIT), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert str(rows) in done.stdout
    total = re.search(r"│ loss +│ (\S+)" if work == "compute" else r'"value": (\S+),', done.stdout)
    assert total is not None
    expected = {"compute": rows * np.log(256), "evaluate": 1}[work]
    assert float(total[1]) == pytest.approx(expected)
