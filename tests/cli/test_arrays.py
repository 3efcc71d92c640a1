"""Arrays in files: bfloat16 goes in and comes back, and a file that is none is one clear line."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save, save_file

from lossd.cli import command
from tests.versions import is_older

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def lossd(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((20, 4)).astype(BFLOAT16)


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 4, 20)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits.astype(np.float64))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("place", ["x.npy", "x.npz", "x.npz:other"])
def test_bfloat16_goes_in_and_comes_back(
    tmp_path: Path, logits: np.ndarray, labels: np.ndarray, place: str
) -> None:
    np.save(tmp_path / "x.npy", logits)
    many: dict[str, Any] = (
        {"other": logits, "labels": labels} if place.endswith("other") else {"x": logits}
    )
    np.savez(tmp_path / "x.npz", **many)
    np.save(tmp_path / "y.npy", labels)
    done = lossd(
        "compute", "cross_entropy", f"--input=predictions={tmp_path}/{place}",
        f"--input=targets={tmp_path}/y.npy", "--output", tmp_path / "out.npz",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    wanted = softmax(logits)
    wanted[np.arange(20), labels] -= 1
    with np.load(tmp_path / "out.npz") as out:
        gradients = out["gradients.predictions"].view(BFLOAT16).astype(np.float64)
    np.testing.assert_allclose(gradients, wanted / 20, rtol=2**-8, atol=1e-9)

    again = lossd(
        "compute", "huber", f"--input=predictions={tmp_path}/out.npz:gradients.predictions",
        f"--input=targets={tmp_path}/{place}",
    )  # fmt: skip
    assert again.exit_code == 0, again.output


def test_safetensors_go_in_and_come_back(
    tmp_path: Path, logits: np.ndarray, labels: np.ndarray
) -> None:
    save_file({"x": logits, "y": labels}, tmp_path / "batch.safetensors")
    done = lossd(
        "compute", "cross_entropy", f"--input=predictions={tmp_path}/batch.safetensors:x",
        f"--input=targets={tmp_path}/batch.safetensors:y",
        "--output", tmp_path / "out.safetensors",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    wanted = softmax(logits)
    wanted[np.arange(20), labels] -= 1
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == {"gradients.predictions", "per_example"}
    assert found["gradients.predictions"].dtype == BFLOAT16
    np.testing.assert_allclose(
        found["gradients.predictions"].astype(np.float64), wanted / 20, rtol=2**-8, atol=1e-9
    )
    value = lossd(
        "evaluate", "confusion_matrix", f"--input=predictions={tmp_path}/batch.safetensors:x",
        f"--input=targets={tmp_path}/batch.safetensors:y",
        "--output", tmp_path / "matrix.safetensors",
    )  # fmt: skip
    assert value.exit_code == 0, value.output
    counted = load_file(tmp_path / "matrix.safetensors")["values"]
    assert np.array_equal(counted.sum(axis=1), np.bincount(labels, minlength=4))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_name_within_a_file_may_have_colons(tmp_path: Path, suffix: str) -> None:
    names = ("dense/kernel:0", "a:b:c", "x.npz:y")
    arrays = {name: np.full(3, place, np.float32) for place, name in enumerate(names)}
    path = tmp_path / f"batch{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]  # these are no options
    else:
        save_file(arrays, path)
    np.save(tmp_path / "y.npy", np.zeros(3))
    for place, name in enumerate(names):
        done = lossd(
            "compute", "squared_error", f"--input=predictions={path}:{name}",
            f"--input=targets={tmp_path}/y.npy", "--json",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["loss"] == place**2


FIELDS = "{'descr': '<f4', 'fortran_order': False, "


@pytest.mark.parametrize("command", ["compute", "evaluate"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "header",
    [
        FIELDS + "'shape': (6, 3", FIELDS + "1: 2}", FIELDS + "'shape': (9999999999999, 999999)}",
        FIELDS + "'shape': (6, True, 3)}", FIELDS + "'shape': (-6, 3)}", "[]", "'''", "(" * 300,
    ],
    ids=["cut", "key", "huge", "true", "negative", "list", "quotes", "deep"],
)  # fmt: skip
def test_a_damaged_header_is_one_clear_line(
    tmp_path: Path, command: str, version: int, header: str
) -> None:
    if "-6" in header and is_older("numpy", "2.3"):
        pytest.skip("it is read as six rows")
    length = (len(header) + 1).to_bytes(2 * version, "little")
    start = b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + b"\n"
    (tmp_path / "y.npy").write_bytes(start + bytes(72))
    np.save(tmp_path / "x.npy", np.ones((6, 3), np.float32))
    name = {"compute": "squared_error", "evaluate": "regression_errors"}[command]
    done = lossd(
        command, name, f"--input=predictions={tmp_path}/x.npy",
        f"--input=targets={tmp_path}/y.npy",
    )  # fmt: skip
    assert done.exit_code == 2, done.output
    assert f"targets must be a readable array, got {tmp_path}/y.npy: no array" in done.output


@pytest.mark.parametrize("command", ["compute squared_error", "evaluate regression_errors"])
def test_a_name_that_no_file_can_have_is_one_clear_line(command: str) -> None:
    done = lossd(*command.split(), "--input=predictions=" + "x" * 5000, "--input=targets=y.npy")
    assert done.exit_code == 2, done.output
    assert "File name too long" in done.output


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_damaged_archive_is_one_clear_line(tmp_path: Path, method: int) -> None:
    random = np.random.default_rng(method)
    plain = io.BytesIO()
    np.save(plain, random.standard_normal((6, 3)))
    with zipfile.ZipFile(tmp_path / "y.npz", "w", method) as archive:
        archive.writestr("a.npy", plain.getvalue())
        archive.writestr("notes.txt", b"no array")
    whole = (tmp_path / "y.npz").read_bytes()
    np.save(tmp_path / "x.npy", np.ones((6, 3)))

    def computed(key: str) -> Result:
        return lossd(
            "compute", "squared_error", f"--input=predictions={tmp_path}/x.npy",
            f"--input=targets={tmp_path}/y.npz:{key}",
        )  # fmt: skip

    assert "no array that NumPy can read" in computed("notes.txt").output
    for place in random.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        (tmp_path / "y.npz").write_bytes(damaged)
        done = computed("a")
        assert done.exception is None or isinstance(done.exception, SystemExit), place


def test_evaluate_reads_bfloat16(tmp_path: Path, logits: np.ndarray, labels: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", logits)
    np.save(tmp_path / "y.npy", labels)
    done = lossd(
        "evaluate", "log_loss", f"--input=predictions={tmp_path}/x.npy",
        f"--input=targets={tmp_path}/y.npy",
    )  # fmt: skip
    wanted = -np.log(softmax(logits)[np.arange(20), labels]).mean()
    assert f"{wanted:.10g}"[:8] in done.output


def test_arrays_come_in_through_pipes() -> None:
    """A shell gives one for <(command); it can be read once, and not from any position."""
    held = io.BytesIO(), io.BytesIO()
    np.save(held[0], np.zeros((2, 4), np.float32))
    np.savez(held[1], labels=np.array([1, 2]))
    (predictions, into), (targets, into_targets) = os.pipe(), os.pipe()
    for descriptor, file in zip((into, into_targets), held, strict=True):
        os.write(descriptor, file.getvalue())
        os.close(descriptor)
    inputs = (f"--input=predictions=/dev/fd/{predictions}", f"--input=targets=/dev/fd/{targets}")
    done = lossd("compute", "cross_entropy", *inputs, "--json")
    for descriptor in (predictions, targets):
        os.close(descriptor)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["loss"] == pytest.approx(np.log(4))


def test_an_array_comes_in_on_stdin(tmp_path: Path) -> None:
    held = io.BytesIO()
    np.save(held, np.full(4, 3.0))
    np.save(tmp_path / "y.npy", np.zeros(4))
    done = lossd(
        "compute", "squared_error", "--input=predictions=-",
        f"--input=targets={tmp_path}/y.npy", "--json", stdin=held.getvalue(),
    )  # fmt: skip
    assert '"loss": 9.0' in done.output


def damaged(folder: Path) -> dict[str, Path]:
    """Files that are no arrays, each in its own way."""
    np.savez_compressed(folder / "good.npz", x=np.arange(5000) % 77)
    np.save(folder / "good.npy", np.arange(5000))
    archive, array = (folder / "good.npz").read_bytes(), (folder / "good.npy").read_bytes()
    middle = len(archive) // 2
    contents = {
        "empty.npy": b"",
        "empty.npz": b"",
        "cut.npy": array[:100],
        "half.npy": array[: len(array) // 2],
        "cut.npz": archive[:middle],
        "flipped.npz": archive[:middle] + bytes(64) + archive[middle + 64 :],
        "huge.npy": array.replace(b"(5000,)", b"(9999999999999,)"),
        "empty.safetensors": b"",
        "cut.safetensors": save({"x": np.arange(5000)})[:4000],
        "head.npy": array[:20] + b"\xff" * 40 + array[60:],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "texts.npz", "w") as file:
        file.writestr("x.npy", "no array")
    return {
        name: folder / name for name in (*contents, "texts.npz", "", "none.npy", "none.safetensors")
    }


def open_files() -> set[Path]:
    """Returns the paths that this process has open, where the system tells."""
    return {path.resolve() for path in Path("/proc/self/fd").glob("*")}


def test_a_file_that_is_no_array_is_one_clear_line(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.arange(5000.0))
    for name, path in damaged(tmp_path).items():
        done = lossd(
            "compute", "huber", f"--input=predictions={path}",
            f"--input=targets={tmp_path}/y.npy",
        )  # fmt: skip
        assert done.exit_code == 2, (name, done.output)
        assert done.output.splitlines()[-1].startswith("Error: "), (name, done.output)
        assert path not in open_files(), name


@pytest.mark.parametrize("command", ["compute huber", "evaluate regression_errors"])
def test_stdin_stands_for_one_file(command: str) -> None:
    both = [*command.split(), "--input=predictions=-", "--input=targets=-"]
    cases = {
        "predictions, targets": both,
        "predictions, weights": [*both[:-1], "--input=targets=y.npy", "--weights=-"],
        "targets, mask": [*both[:2], "--input=predictions=x.npy", both[3], "--mask=-"],
        "predictions, predictions, targets, targets": [*both, *both[2:]],
    }
    for names, arguments in cases.items():
        done = lossd(*arguments)
        assert done.exit_code == 2
        assert f"- must stand for one file, got it for {names}\n" in done.output


@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
def test_a_stream_that_is_no_array_is_not_read_to_its_end(tmp_path: Path, source: str) -> None:
    """It may have none: /dev/zero, or a program that goes on writing."""
    np.save(tmp_path / "y.npy", np.arange(5.0))
    given = [f"--input=predictions={source}", f"--input=targets={tmp_path}/y.npy"]
    command = [sys.executable, "-m", "lossd", "compute", "huber", *given]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"no array" * 10)
        process.stdin.flush()
        try:
            assert process.wait(60) == 2
        finally:
            process.kill()
        said = process.stderr.read().decode().splitlines()[-1]
    assert said.endswith(f"got {source}: no array that NumPy can read")


def test_an_array_of_what_the_wire_lacks_is_one_clear_line(tmp_path: Path) -> None:
    for array in (np.array(["a"]), np.zeros(3, complex), np.zeros(3, "V5"), np.zeros(2, "M8[s]")):
        np.save(tmp_path / "x.npy", array)
        np.save(tmp_path / "y.npy", np.zeros(3))
        done = lossd(
            "compute", "huber", f"--input=predictions={tmp_path}/x.npy",
            f"--input=targets={tmp_path}/y.npy",
        )  # fmt: skip
        assert (done.exit_code, "predictions must" in done.output) == (2, True), done.output


def of_type(dtype: str, bits: int) -> bytes:
    """A file of safetensors with 24 numbers of a type, which may be one that NumPy lacks."""
    size = 24 * bits // 8
    head = json.dumps({"x": {"dtype": dtype, "shape": [24], "data_offsets": [0, size]}}).encode()
    return len(head).to_bytes(8, "little") + head + bytes(size)


@pytest.mark.parametrize("bits", [("F8_E4M3", 8), ("F8_E5M2", 8), ("F4", 4), ("C64", 64)])
@pytest.mark.parametrize("command", [["compute", "huber"], ["evaluate", "regression_errors"]])
def test_a_type_that_numpy_lacks_is_named(
    tmp_path: Path, command: list[str], bits: tuple[str, int]
) -> None:
    if bits[0] in ("F4", "C64") and is_older("safetensors", "0.7"):
        pytest.skip("the library knows no such type")
    path = tmp_path / "x.safetensors"
    path.write_bytes(of_type(*bits))
    done = lossd(*command, f"--input=predictions={path}", f"--input=targets={path}")

    assert done.exit_code == 2, done.output
    said = done.output.splitlines()[-1]
    assert said.startswith(f"Error: predictions must be a readable array, got {path}: x must hold")
    assert said.endswith(f"got {bits[0]}")
