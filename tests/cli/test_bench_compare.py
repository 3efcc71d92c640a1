"""``lossd bench --compare``: how one file of measurements differs from another."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lossd.cli import command
from lossd.cli.measuring import Row

ROW = Row(
    loss="cross_entropy", parameters=(), dtype="float32",
    transport="shared_memory", shape=(65536, 1000), callers=4, calls=100, calls_per_second=2000.0,
    gigabytes_per_second=1.5, due_per_second=1400.0, peak_bytes=None,
    milliseconds={"p50": 0.5, "p90": 0.7, "p99": 1.0, "max": 2.0},
    phases={"receive": 0.1, "decode": 0.1, "queue": 0.1, "compute": 0.1},
)  # fmt: skip


def written(path: Path, *rows: Row) -> str:
    path.write_text(json.dumps([asdict(row) for row in rows]))
    return str(path)


def compare(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(command, ["bench", "--compare", *arguments])


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Twice as quick; and each has a kind that the other has not."""
    quick = replace(ROW, calls_per_second=4000.0, milliseconds={"p50": 0.25, "p99": 1.1})
    before = written(tmp_path / "before.json", ROW, replace(ROW, callers=1))
    return before, written(
        tmp_path / "after.json", quick, replace(ROW, transport="tcp"), replace(ROW, loss="huber")
    )


def test_it_says_by_how_much_each_number_changed(files: tuple[str, str]) -> None:
    changes = json.loads(compare(*files, "--json").stdout)

    assert {(one["transport"], one["shape"], one["callers"]) for one in changes} == {
        ("shared_memory", "65536x1000", 4)
    }
    assert {one["number"]: one["change"] for one in changes} == pytest.approx(
        {"calls_per_second": 1.0, "p50": -0.5, "p99": 0.1}
    )


def test_the_table_fits_80_columns(files: tuple[str, str]) -> None:
    done = compare(*files)

    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    for text in ("65536x1000", "+100.0%", "-50.0%", "+10.0%"):
        assert text in done.output


def test_what_cannot_be_compared_is_refused(files: tuple[str, str], tmp_path: Path) -> None:
    other = written(tmp_path / "other.json", replace(ROW, transport="unix"))
    text = tmp_path / "text.json"
    text.write_text('{"rows": 3}')

    for arguments, said in (
        ((files[0], other), "in common"),
        ((files[0], str(text)), "must be of files of lossd bench --json"),
        ((files[0],), "requires 2 arguments"),
        ((*files, "--seconds", "1"), "must come alone or with --json"),
    ):
        done = compare(*arguments)
        assert (done.exit_code, said in " ".join(done.output.split())) == (2, True), done.output
