"""The command line: what it prints is right, and what a user gets wrong is one clear line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from scipy.special import softmax
from sklearn.metrics import log_loss

from lossd.backends.choose import cpu_backend
from lossd.backends.cupy import Availability
from lossd.batch import Job
from lossd.cli import command, subcommands
from lossd.engine import Engine
from lossd.errors import BackendUnavailable
from lossd.kernels.host import Library, NoLibraryError
from lossd.losses import LOSSES
from lossd.networks import save, worked_networks
from lossd.serving.app import tracing_of
from lossd.serving.config import Config, ConfigError
from tests.end_to_end.conftest import not_served


def logits() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)


def labels() -> npt.NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 4, 20)


def weights() -> npt.NDArray[np.float32]:
    return np.random.default_rng(2).random(20).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    np.save(tmp_path / "logits.npy", logits())
    np.savez(tmp_path / "batch.npz", labels=labels(), weights=weights())
    np.savez(tmp_path / "one.npz", labels=labels())
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "pickle.npy").touch()
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    return tmp_path


def lossd(*arguments: object, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(command, [str(argument) for argument in arguments])


def inputs(files: Path) -> list[object]:
    return [
        "--input",
        f"predictions={files}/logits.npy",
        "--input",
        f"targets={files}/batch.npz:labels",
    ]


def expected(**parameters: Any) -> Any:
    job = Job(
        loss=LOSSES["cross_entropy"],
        parameters=parameters,
        inputs={"predictions": [logits()], "targets": [labels()]},
        weights=weights(),
    )
    return Engine(cpu_backend(1)).run(job)


def test_compute_from_files_equals_the_library(files: Path) -> None:
    done = lossd(
        "compute", "CrossEntropy", *inputs(files), "--weights", f"{files}/batch.npz:weights",
        "--param", "class_weights=[1,2,3,4]", "--param", "label_smoothing=0.1",
        "--param", "prediction_kind=LOGITS", "--output", files / "out.npz",
    )  # fmt: skip
    result = expected(class_weights=(1, 2, 3, 4), label_smoothing=0.1)
    with np.load(files / "out.npz") as out:
        written = dict(out)

    assert done.exit_code == 0, done.output
    assert f"{result.loss:.17g}" in done.output
    assert written.keys() == {"gradients.predictions", "per_example"}
    assert np.array_equal(written["gradients.predictions"], result.gradients["predictions"])
    assert np.array_equal(written["per_example"], result.per_example)


def test_compute_takes_sums_and_lists_of_maps(files: Path) -> None:
    names = {"predictions": "maps", "targets": "truth"}
    terms = [
        {"weight": 0.7, "loss": {"cross_entropy": {"label_smoothing": 0.1}}},
        {"weight": -2, "loss": {"feature_matching": {}}, "input_names": names},
    ]
    first, second = np.full((20, 2), 3.0), np.full((20, 1, 2), 2.0)
    np.savez(files / "maps.npz", first=first, second=second)
    np.savez(files / "none.npz", first=0 * first, second=0 * second)
    done = lossd(
        "compute", "weighted_sum", *inputs(files), "--weights", f"{files}/batch.npz:weights",
        "--param", f"terms={json.dumps(terms)}", "--output", files / "out.npz",
        "--input", f"maps={files}/maps.npz:first", "--input", f"maps={files}/maps.npz:second",
        "--input", f"truth={files}/none.npz:first", "--input", f"truth={files}/none.npz:second",
    )  # fmt: skip
    alone = expected(label_smoothing=0.1)
    shares = weights() / weights().sum(dtype=np.float64)

    assert done.exit_code == 0, done.output
    assert f"{alone.loss:.17g}" in done.output
    assert f"{0.7 * alone.loss - 2 * 13:.17g}"[:12] in done.output
    with np.load(files / "out.npz") as out:
        np.testing.assert_allclose(
            out["gradients.predictions"], 0.7 * alone.gradients["predictions"], rtol=1e-6
        )
        derivatives = -2 * shares[:, None, None] * second
        np.testing.assert_allclose(out["gradients.maps[1]"], derivatives, rtol=1e-6)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_compute_prints_the_norm_of_a_gradient_of_any_size(tmp_path: Path, size: float) -> None:
    np.save(tmp_path / "x.npy", np.array([size, -size]))
    np.save(tmp_path / "y.npy", np.zeros(2))
    done = lossd(
        "compute", "squared_error", "--reduction", "sum", "--gradient", "predictions", "--json",
        f"--input=predictions={tmp_path}/x.npy", f"--input=targets={tmp_path}/y.npy",
    )  # fmt: skip

    norms = json.loads(done.stdout)["gradient_norms"]
    assert norms == {"predictions": pytest.approx(2 * np.sqrt(2) * size, rel=1e-12, abs=0)}


def test_probabilities_are_not_taken_for_their_logarithms(files: Path) -> None:
    shares = softmax(logits().astype(np.float64), axis=1)
    np.save(files / "shares.npy", shares)
    own = shares[np.arange(20), labels()]
    given = ["--input", f"predictions={files}/shares.npy", *inputs(files)[2:]]
    kind = ["--param", "prediction_kind=PROBABILITIES", "--json"]
    for command_and_name, key, wanted in (
        (("compute", "cross_entropy"), "loss", -np.log(own).mean()),
        (("evaluate", "log_loss"), "value", log_loss(labels(), shares)),
        (
            ("evaluate", "brier"),
            "value",
            ((shares - np.eye(4)[labels()]) ** 2).sum(axis=1).mean(),
        ),
    ):
        done = lossd(*command_and_name, *given, *kind)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)[key] == pytest.approx(wanted, rel=1e-12)


def test_an_npz_file_with_one_array_needs_no_key(files: Path) -> None:
    done = lossd(
        "compute", "cross_entropy", "--input", f"predictions={files}/logits.npy",
        "--input", f"targets={files}/one.npz", "--reduction", "sum",
    )  # fmt: skip

    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CrosEntropy"], "got CrosEntropy: did you mean cross_entropy?"),
        (["roc_auc"], "got the metric roc_auc: train with pairwise_auc"),
        (["huber", "--param", "delta"], "--param must be NAME=VALUE, got delta"),
        (["huber", "--param", "delt=1"], "delta for Huber, got delt: did you mean delta?"),
        (["huber", "--param", "delta=wide"], "delta must be a number, got wide"),
        (["huber", "--param", "delta=1", "--param", "delta=2"], "must give delta once"),
        (["huber", "--input", "predictions"], "--input must be NAME=FILE, got predictions"),
        (["huber", "--input", "prediction=x.npy"], "did you mean predictions?"),
        (["huber", "--input", "weights=x.npy"], "got weights: give --weights FILE"),
        (["huber", "--input", "predictions={files}/none.npy", "--input", "targets=x"],
          "No such file or directory"),
        (["huber", "--input", "predictions={files}", "--input", "targets=x"],
          "got {files}: Is a directory"),
        (["huber", "--input", "predictions={files}/text.npy", "--input", "targets=x"],
          "no array that NumPy can read"),
        (["huber", "--input", "predictions={files}/pickle.npy", "--input", "targets=x"],
          "no array that NumPy can read"),
        (["huber", "--input", "predictions={files}/batch.npz", "--input", "targets=x"],
          "(labels, weights), got none"),
        (["huber", "--input", "predictions={files}/batch.npz:x", "--input", "targets=x"],
          "(labels, weights), got x"),
        (["huber", "--input", "predictions={files}/logits.npy"],
          "--input targets=FILE must be given for huber, got only predictions"),
        (["huber"], "--input predictions=FILE --input targets=FILE must be given for huber"),
        (["huber", "--reduction", "most"], "'most' is not one of"),
        (["cross_entropy", "--param", "prediction_kind=ODDS"],
          "prediction_kind must be one of LOGITS, LOG_PROBABILITIES, PROBABILITIES, got ODDS"),
        (["cross_entropy", "--param", "prediction_kind=probs"], "did you mean PROBABILITIES?"),
        (["cross_entropy", "--address", "127.0.0.1:1", "--input", "targets={files}/one.npz",
          "--input", "predictions={files}/logits.npy"], "Failed to connect"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, files: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("lossd.cli.reaching._SECONDS", 1.0)  # where nothing answers
    done = lossd("compute", *(argument.format(files=files) for argument in arguments))
    last = done.output.strip().splitlines()[-1]

    assert done.exit_code != 0
    assert last.startswith("Error: ")
    assert message.format(files=files) in last


def test_an_output_that_cannot_be_written_is_said(files: Path) -> None:
    done = lossd("compute", "cross_entropy", *inputs(files), "--output", files / "no" / "out.npz")

    assert done.exit_code == 2
    assert "out.npz cannot be written: No such file or directory" in done.output


def test_config_says_where_a_setting_comes_from() -> None:
    done = lossd("config", "--threads", "3", LOSSD_MAX_CALLS="9", COLUMNS="200")
    rows = [line.split() for line in done.output.splitlines()]
    values = {row[0]: row[1:3] for row in rows if len(row) == 4}

    assert values["--threads"] == ["3", "flag"]
    assert values["--max-calls"] == ["9", "environment"]
    assert values["--max-tensors"] == ["64", "default"]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_config_shows_whole_values_however_narrow_the_terminal(columns: int) -> None:
    done = lossd("config", COLUMNS=str(columns))

    assert re.search(r"--address +127\.0\.0\.1:50051 +default", done.output)
    assert ("LOSSD_ADDRESS" in done.output) == (columns == 200)


def test_what_config_and_doctor_say_stays_on_its_line_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    address = f"unix:/run/{'long/' * 16}s"  # more than 80 columns
    rows = [line.split() for line in lossd("config", "--address", address).output.splitlines()]
    looked_at = lossd("doctor", "--backend", "numpy", "--shm-dir", f"/none/{'long/' * 40}")

    assert ["--address", address, "flag", "LOSSD_ADDRESS"] in rows
    assert f"/none/{'long/' * 40}" in looked_at.output


def test_config_check_finds_what_is_out_of_bounds_and_what_is_misspelt() -> None:
    assert lossd("config", "--check").exit_code == 0
    assert (
        "--max-calls (LOSSD_MAX_CALLS) must be in [1, 4096], got 0"
        in lossd("config", "--check", LOSSD_MAX_CALLS="0").output
    )
    assert "LOSSD_THREAD" in lossd("config", "--check", LOSSD_THREAD="2").output
    assert lossd("config", "--check", LOSSD_THREAD="2").exit_code == 1


@pytest.mark.parametrize("flag", ["--networks", "--shm-dir"])
def test_config_check_fails_where_a_server_would_not_start(tmp_path: Path, flag: str) -> None:
    assert lossd("config", "--check", flag, tmp_path).exit_code == 0
    refused = lossd("config", "--check", flag, tmp_path / "none")

    assert refused.exit_code == 1
    assert not_served(flag, str(tmp_path / "no"))
    assert refused.output.startswith("Error: "), refused.output
    assert not refused.output.count("in bounds")


def test_config_check_looks_for_the_directory_of_a_socket(tmp_path: Path) -> None:
    there = lossd("config", "--check", "--address", f"unix:{tmp_path}/s.sock")
    nowhere = f"unix:{tmp_path}/none/s.sock"
    refused = lossd("config", "--check", "--address", nowhere)

    said = f"Error: address must be in a directory that exists, got {nowhere}"
    assert (there.exit_code, there.output) == (0, "every setting is in bounds\n")
    assert (refused.exit_code, refused.output) == (1, f"{said}\n")
    assert f"Error: {not_served('--address', nowhere)}".startswith(said)


def test_what_traces_take_is_looked_for_before_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lossd.serving.tracing", None)  # as without OpenTelemetry
    refused = lossd("config", "--check", "--tracing")
    looked_at = lossd("doctor", "--backend", "numpy", "--tracing", COLUMNS="200")

    said = "tracing must have OpenTelemetry, got none"
    assert lossd("config", "--check").exit_code == 0
    assert (refused.exit_code, refused.output.startswith(f"Error: {said}")) == (1, True)
    with pytest.raises(ConfigError, match=said):  # which is what a start calls
        tracing_of(Config(tracing=True))
    assert (looked_at.exit_code, said in looked_at.output) == (1, True), looked_at.output


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("OTEL_PROPAGATORS", "unheard_of", "Propagator unheard_of not found"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-3", ""),  # older releases fail to say why
    ],
)
def test_a_variable_that_traces_cannot_use_is_told_in_a_line(
    variable: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="needs the extra 'otel'")
    monkeypatch.setenv(variable, value)  # some are read as the library is loaded

    said = "tracing must have variables OTEL_* that can be used, got: "
    assert not_served("--tracing").startswith(said + why)


def test_doctor_is_content_with_this_machine() -> None:
    done = lossd("doctor", "--backend", "numpy", "--max-inflight-bytes", "1000000", COLUMNS="200")

    assert done.exit_code == 0, done.output
    assert "checks right" in done.output


def test_doctor_fails_where_requests_do_not_fit_the_memory() -> None:
    done = lossd("doctor", "--backend", "numpy", "--max-inflight-bytes", str(1 << 50))

    assert done.exit_code == 1
    assert "wrong" in done.output


@pytest.mark.parametrize(("backend", "counted"), [("auto", 2), ("numpy", 0)])
def test_doctor_counts_what_is_pinned_for_gpus(
    backend: str, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needed(gpus: int) -> int:
        there = Availability("", "a GPU", gpus)
        monkeypatch.setattr("lossd.cli.machine.probe", lambda: there)
        done = lossd("doctor", "--backend", backend, "--max-inflight-bytes", "1000000", "--json")
        (memory,) = (one["found"] for one in json.loads(done.stdout) if one["thing"] == "memory")
        return int(re.findall(r"([\d,]+) MiB", memory)[1].replace(",", ""))

    assert needed(2) - needed(0) == 256 * counted


@pytest.mark.parametrize(("machine", "mark"), [("x86_64", "warn"), ("riscv64", "ok")])
def test_doctor_warns_of_missing_kernels_where_there_could_be_some(
    machine: str, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Library:
        raise NoLibraryError("there is no library: do this")

    monkeypatch.setattr("lossd.cli.machine.Library", missing)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("sys.platform", "linux")
    small = ("--backend", "numpy", "--max-inflight-bytes", "1000000")
    lines = lossd("doctor", *small, COLUMNS="200").output.splitlines()

    (said,) = (line for line in lines if "kernels for the CPU" in line)
    assert mark in said
    assert "none, NumPy alone computes: there is no library: do this" in said


def test_doctor_says_that_the_memory_of_a_gpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> None:
        raise BackendUnavailable("backend must be usable, got cupy: out of memory")

    monkeypatch.setattr("lossd.cli.machine.routes_of", taken)
    done = lossd("doctor", "--backend", "numpy", "--max-inflight-bytes", "1000000", COLUMNS="200")

    assert done.exit_code == 1
    assert "must be usable, got cupy: out of memory" in done.output


def test_doctor_says_whether_memory_can_be_shared(tmp_path: Path) -> None:
    small = ("--backend", "numpy", "--max-inflight-bytes", "1000000")
    usable = lossd("doctor", *small, "--shm-dir", tmp_path, COLUMNS="300")
    missing = lossd("doctor", *small, "--shm-dir", tmp_path / "no", COLUMNS="300")

    assert usable.exit_code == 0, usable.output
    assert f"{tmp_path} can be used" in usable.output
    assert list(tmp_path.iterdir()) == []
    assert missing.exit_code == 1
    assert "shm_dir must be a directory that can be written to" in missing.output


@pytest.mark.parametrize(("kind", "is_warned_of"), [("tmpfs", False), ("ext4", True)])
def test_a_shared_directory_on_a_disk_is_warned_of_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_warned_of: bool
) -> None:
    monkeypatch.setattr("lossd.serving.cautions.filesystem_of", lambda _: kind)
    small = ("--backend", "numpy", "--max-inflight-bytes", "1000000", "--address", "127.0.0.1:0")
    looked_at = lossd("doctor", *small, "--shm-dir", tmp_path, "--json")
    checked = lossd("config", "--check", "--shm-dir", tmp_path)

    findings = [one for one in json.loads(looked_at.stdout) if str(tmp_path) in one["found"]]
    said = [one for one in json.loads(looked_at.stdout) if "shm_dir is on" in one["found"]]
    assert [(one["thing"], one["is_warning"]) for one in findings] == [
        ("shared directory", is_warned_of)
    ]
    assert said == (findings if is_warned_of else [])
    assert (looked_at.exit_code, checked.exit_code) == (0, 0)
    assert ("warning: shm_dir is on ext4" in checked.output) == is_warned_of


def test_doctor_finds_a_loss_that_computes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace  # noqa: PLC0415

    from lossd import selftest  # noqa: PLC0415

    huber = LOSSES["huber"]
    wrong = replace(huber, body=LOSSES["absolute_error"].body, parameters=())
    monkeypatch.setattr(selftest, "LOSSES", {**LOSSES, "huber": wrong})
    done = lossd("doctor", "--backend", "numpy", COLUMNS="200")

    assert done.exit_code == 1
    assert "huber in float32" in done.output


def test_without_arguments_it_shows_its_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lossd", "--help"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    for name in subcommands():
        assert f"  {name} " in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_takes_no_more_is_one_clear_line() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "lossd", "losses"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "Error: output must be writable, got No space left on device\n"


def test_without_docstrings_it_says_what_it_lacks() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lossd", "losses"],
        env={**os.environ, "PYTHONOPTIMIZE": "2"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: lossd needs its docstrings: run it without -OO or PYTHONOPTIMIZE=2\n"
    )


def test_a_width_of_nothing_is_no_width(files: Path) -> None:
    """So it is set where the width of a terminal was asked for and there was none."""
    done = subprocess.run(
        [sys.executable, "-m", "lossd", "evaluate", "accuracy", *map(str, inputs(files))],
        env={**os.environ, "COLUMNS": "0"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "example_count │ 20" in done.stdout


def test_a_subcommand_is_imported_when_it_is_used() -> None:
    script = "import sys, lossd.cli; print({'numpy', 'grpc', 'rich'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "set()\n"


def test_evaluate_over_files_equals_one_batch(tmp_path: Path) -> None:
    for place in (0, 10):
        np.save(tmp_path / f"logits{place}.npy", logits()[place : place + 10])
        np.save(tmp_path / f"labels{place}.npy", labels()[place : place + 10])
    arguments = [
        f"--input={name}={tmp_path}/{stem}{place}.npy"
        for place in (0, 10)
        for name, stem in (("predictions", "logits"), ("targets", "labels"))
    ]
    done = lossd("evaluate", "accuracy", *arguments, "--param", "top_k=2")
    ranks = (-logits()).argsort(axis=1)[:, :2]
    assert done.exit_code == 0, done.output
    assert f"{(ranks == labels()[:, None]).any(axis=1).mean():.17g}" in done.output
    assert "example_count │ 20" in done.output


def test_a_matrix_is_shown_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    predicted, targets = random.integers(0, 30, (2, 400))
    np.save(tmp_path / "p.npy", predicted)
    np.save(tmp_path / "t.npy", targets)
    wanted = np.zeros((30, 30), int)
    np.add.at(wanted, (targets, predicted), 1)
    files = [f"--input=predictions={tmp_path}/p.npy", f"--input=targets={tmp_path}/t.npy"]
    classes = ["--param", "classes=30", "--output", tmp_path / "out.npz"]
    done = lossd("evaluate", "confusion_matrix", *files, *classes, COLUMNS="120")
    rows = [line.split("│")[2].split() for line in done.output.splitlines() if "│" in line]

    assert [[int(word) for word in row] for row in rows[:30]] == wanted.tolist()
    assert re.search(r"│ rows +│ targets +│\n│ columns +│ predictions ", done.output)
    assert np.array_equal(np.load(tmp_path / "out.npz")["values"], wanted)
    assert "..." not in done.output
    shown = lossd("evaluate", "confusion_matrix", *files, "--param", "classes=30", "--json")
    assert json.loads(shown.stdout)["values"] == wanted.tolist()


def test_evaluate_takes_weights_and_a_mask_of_each_batch(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    right = random.random(20) < 0.5
    weights, mask = random.random(20), random.random(20) < 0.7
    arrays = {"p": right.astype(int), "t": np.ones(20, int), "w": weights, "m": mask}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}0.npy", array[:12])
        np.save(tmp_path / f"{name}1.npy", array[12:])
    flags = {
        "p": "--input=predictions=",
        "t": "--input=targets=",
        "w": "--weights=",
        "m": "--mask=",
    }
    given = [
        f"{flag}{tmp_path}/{name}{part}.npy" for part in (0, 1) for name, flag in flags.items()
    ]
    done = lossd("evaluate", "accuracy", *given, "--param", "task=binary", "--json")
    found = json.loads(done.stdout)

    assert found["value"] == pytest.approx((weights * right)[mask].sum() / weights[mask].sum())
    assert (found["example_count"], found["ignored_count"]) == (mask.sum(), 20 - mask.sum())


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\r"])
def test_a_text_may_hold_what_separates_lines_elsewhere(tmp_path: Path, mark: str) -> None:
    said = f"one{mark}two\r\nthree\n\nfour"
    (tmp_path / "said.txt").write_text(said, encoding="utf-8", newline="")
    (tmp_path / "meant.txt").write_text("one two\nthree\n\nfive\n", encoding="utf-8")
    files = [f"--input=hypotheses={tmp_path}/said.txt", f"--input=references={tmp_path}/meant.txt"]
    done = lossd("evaluate", "word_error_rate", *files, "--json")

    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["value"], found["example_count"]) == (0.25, 4)  # "five" alone is another word


def test_texts_come_in_on_stdin(tmp_path: Path) -> None:
    (tmp_path / "meant.txt").write_text("one two\nthrée\n", encoding="utf-8")
    arguments = ["evaluate", "word_error_rate", "--json", "--input=hypotheses=-"]
    done = CliRunner().invoke(
        command,
        [*arguments, f"--input=references={tmp_path}/meant.txt"],
        input="\ufeffone two\ntwo\n".encode(),
    )
    twice = lossd(*arguments, "--input=references=-")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["value"] == pytest.approx(1 / 3)
    assert twice.exit_code == 2
    assert "- must stand for one file, got it for hypotheses, references" in twice.output


def test_a_mark_of_the_byte_order_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("one two\n", encoding="utf-8-sig")
    (tmp_path / "meant.txt").write_text("one two\n", encoding="utf-8")
    files = [f"--input=hypotheses={tmp_path}/said.txt", f"--input=references={tmp_path}/meant.txt"]
    done = lossd("evaluate", "word_error_rate", *files, "--json")

    assert json.loads(done.stdout)["value"] == 0


def test_evaluate_reads_texts_and_says_what_is_not_defined(tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("a b\nc\n")
    files = [f"--input={name}={tmp_path}/said.txt" for name in ("hypotheses", "references")]
    done = lossd("evaluate", "Bleu", *files, "--param", "tokenizer=NONE")
    assert "UNDEFINED: hypotheses have no 3-gram" in done.output
    assert "nrefs:1|case:mixed" in done.output


def test_evaluate_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", logits())
    one = f"--input=predictions={tmp_path}/x.npy"
    for arguments, message in [
        (("cross_entropy", one), "got the loss cross_entropy: lossd compute takes it"),
        (("rocauk", one), "got rocauk: did you mean roc_auc?"),
        (("f1", one), "--input targets=FILE must be given for f1, got only predictions"),
        (("f1", one, one, f"--input=targets={tmp_path}/x.npy"), "got 2 of predictions, 1 of"),
        (("f1", one, "--param", "gamma=1"), "--param must be one of"),
        (
            (
                "bleu",
                f"--input=hypotheses={tmp_path}/none.txt",
                f"--input=references={tmp_path}/x.npy",
            ),
            "must be a readable text",
        ),
    ]:
        done = lossd("evaluate", *arguments)
        assert done.exit_code == 2
        assert message in done.output


def test_compute_looks_through_a_network_of_a_directory(tmp_path: Path) -> None:
    save(tmp_path, worked_networks()["worked"])
    np.save(tmp_path / "images.npy", np.ones((2, 1, 3, 3)))
    np.save(tmp_path / "black.npy", np.zeros((2, 1, 3, 3)))
    arguments = [
        "compute", "Perceptual", f"--input=predictions={tmp_path}/images.npy",
        f"--input=targets={tmp_path}/black.npy", "--param", "network=worked",
        "--param", 'layers=["linear"]', "--param", "value_range=[0,1]",
    ]  # fmt: skip
    done = lossd(*arguments, "--networks", tmp_path)

    assert done.exit_code == 0, done.output
    assert "loss │ 1 " in " ".join(done.output.split())
    refused = lossd(*arguments)
    assert refused.exit_code == 2
    assert "this server has no networks" in refused.output


def test_doctor_looks_at_the_networks(tmp_path: Path) -> None:
    save(tmp_path, worked_networks()["worked"])
    limits = ("--max-inflight-bytes", "1000000", "--max-network-bytes", "1000000")
    small = ("--backend", "numpy", *limits, "--networks", tmp_path)
    usable = lossd("doctor", *small, COLUMNS="300")
    large = lossd("doctor", *small, "--max-network-bytes", str(1 << 50), COLUMNS="300")
    (tmp_path / "worked.safetensors").unlink()
    missing = lossd("doctor", *small, COLUMNS="300")

    assert usable.exit_code == 0, usable.output
    assert "worked (sequential)" in usable.output
    assert large.exit_code == 1
    assert missing.exit_code == 1
    assert f"network {tmp_path}/worked.json must be usable" in missing.output


def test_outputs_that_were_asked_for_are_given(files: Path) -> None:
    asked = ["--param", "outputs=predicted_class", "--output", files / "out.npz"]
    done = lossd("compute", "cross_entropy", *inputs(files), *asked, COLUMNS="120")
    shown = lossd("compute", "cross_entropy", *inputs(files), *asked, "--json")

    assert "predicted_class" in done.output
    assert (
        json.loads(shown.stdout)["outputs"]["predicted_class"] == logits().argmax(axis=1).tolist()
    )
    with np.load(files / "out.npz") as out:
        assert np.array_equal(out["outputs.predicted_class"], logits().argmax(axis=1))


def test_outputs_that_a_term_asks_for_are_given(files: Path) -> None:
    asked = {"outputs": ["PREDICTED_CLASS"]}
    terms = json.dumps([{"loss": {"cross_entropy": outputs}} for outputs in (asked, {})])
    given = ["--param", f"terms={terms}", "--output", files / "out.npz"]
    done = lossd("compute", "weighted_sum", *inputs(files), *given, COLUMNS="120")
    shown = lossd("compute", "weighted_sum", *inputs(files), *given, "--json")

    assert done.exit_code == 0, done.output
    assert "outputs of terms[0]" in done.output
    assert "outputs of terms[1]" not in done.output
    classes = logits().argmax(axis=1)
    (first, second) = json.loads(shown.stdout)["terms"]
    assert (first["outputs"], second["outputs"]) == ({"predicted_class": classes.tolist()}, {})
    with np.load(files / "out.npz") as out:
        assert np.array_equal(out["terms[0].outputs.predicted_class"], classes)


def test_an_interrupt_while_the_command_is_imported_leaves_no_traceback() -> None:
    interrupted = """
import sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
from lossd.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", interrupted], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Aborted!\n")


def test_a_health_check_of_nobody_says_what_other_commands_say(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/none"
    done = lossd("healthcheck", "--address", address)

    said = f"Error: {address}: server must answer within 1 s, got no gRPC connection: "
    assert done.exit_code == 1
    assert done.output.startswith(said)
    assert done.output.endswith('is "lossd serve" running there?\n')


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("LOSSD_METRICS_PORT", "abc", "must be a whole number, got 'abc'"),
        ("LOSSD_METRICS_PORT", "1_0", "must be a whole number, got '1_0'"),
        (  # of Kubernetes, beside a service named lossd-metrics
            "LOSSD_METRICS_PORT",
            "tcp://10.0.0.5:9464",
            "must be a whole number, got 'tcp://10.0.0.5:9464'",
        ),
        ("LOSSD_METRICS_PORT", "65536", "must be in [0, 65535], got 65536"),
        ("LOSSD_METRICS_HOST", "a b", "must be a host name or an IP address, got a b"),
    ],
)
def test_a_health_check_names_the_variable_that_is_wrong(name: str, value: str, rule: str) -> None:
    done = lossd("healthcheck", LOSSD_TLS_CERT="server.crt", **{name: value})

    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2
    assert done.output.splitlines()[-1] == f"Error: {name} {rule}"
