"""Wrong uses of every command: refused before any work, in one line, with status 2."""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from lossd.cli import command, subcommands
from lossd.cli.arguments import Real
from lossd.cli.files import OutputFile
from lossd.serving.config import settings
from lossd.serving.wire.comments import comments

FILES = ["--input=predictions={files}/x.npy", "--input=targets={files}/y.npy"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    random = np.random.default_rng(5)
    np.save(tmp_path / "x.npy", random.standard_normal((8, 3)))
    np.save(tmp_path / "y.npy", random.integers(0, 3, 8))
    np.save(tmp_path / "short.npy", np.zeros(3))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "file").touch()
    return tmp_path


def lossd(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def nowhere(files: Path, name: str) -> list[str]:
    return [f"{files}/no/{name}", f"{files}/file/{name}", str(files), f"/proc/{name}"]


@pytest.mark.parametrize(
    ("typed", "meant"), [("srve", "serve"), ("metric", "metrics"), ("healtcheck", "healthcheck")]
)
def test_a_misspelt_command_is_answered_with_what_may_be_meant(typed: str, meant: str) -> None:
    done = lossd(typed, "--some-option")
    said = f"command must be one that lossd --help lists, got {typed}: did you mean {meant}?"

    assert (done.exit_code, done.output.splitlines()[-1]) == (2, f"Error: {said}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no_such_command"],
        ["bench", "--shape", "10"],
        ["bench", "--shape", "0x3"],
        ["bench", "--shape", "-1x3"],
        ["bench", "--shape", "999999999x999999999"],
        ["bench", "--transport", "pigeon"],
        ["bench", "--callers", "0"],
        ["bench", "--seconds", "nan"],
        ["bench", "--seconds", "inf"],
        ["bench", "--seconds", "-1"],
        ["bench", "--load", "0"],
        ["bench", "--load", "nan"],
        ["bench", "--rate", "0"],
        ["bench", "--rate", "nan"],
        ["bench", "--rate", "5", "--closed"],
        ["bench", "ctc", "--shape", "3x4"],
        ["bench", "roc_auc"],
        ["bench", "weighted_sum"],
        ["bench", "huber", "--input", "predictoins"],
        ["bench", "huber", "--param", "delta=much"],
        ["bench", "huber", "--dtype", "int8"],
        ["bench", "huber", "--param", "delta=-1"],
        ["bench", "cross_entropy", "--param", "class_axis=5", "--shape", "32x10"],
        ["bench", "--transport", "tcp", "--address", "127.0.0.1:1"],
        ["bench", "--networks", "{files}", "--address", "127.0.0.1:1"],
        ["bench", "--plot", "chart.tuna"],
        ["compute"],
        ["compute", "cross_entropy"],
        ["compute", "cross_entropy", *FILES, "--gradient", "prediction"],
        ["compute", "cross_entropy", *FILES, "--weights", "{files}/short.npy"],
        ["compute", "cross_entropy", *FILES, "--weights", "{files}/none.npy"],
        ["compute", "cross_entropy", *FILES, "--mask", "{files}/x.npy"],
        ["compute", "cross_entropy", *FILES, "--input=targets={files}/y.npy"],
        ["compute", "cross_entropy", *FILES, "--networks", "{files}/no"],
        ["compute", "cross_entropy", *FILES, "--networks", "{files}", "--address", "127.0.0.1:1"],
        *(
            [*command, *FILES, "--output", output]
            for command in (["compute", "cross_entropy"], ["evaluate", "accuracy"])
            for output in ("-", "out", "out.npy", "out.csv", "out.NPZ", "/dev/stdout")
        ),
        ["compute", "cross_entropy", *FILES, "--param", "temperature=0"],
        ["compute", "cross_entropy", *FILES, "--param", "temperature=nan"],
        ["compute", "cross_entropy", *FILES, "--param", "class_weights=1,2"],
        ["compute", "perceptual", *FILES],
        ["compute", "huber", *FILES],
        ["compute", "weighted_sum", *FILES],
        ["compute", "weighted_sum", *FILES, "--param", "terms=[]"],
        ["compute", "weighted_sum", *FILES, "--param", "terms=[{}]"],
        ["compute", "weighted_sum", *FILES, "--param", 'terms=[{"loss": {}}]'],
        ["config", "extra"],
        ["config", "--threads", "many"],
        ["config", "--threads", "-1"],
        ["demo", "--epochs", "-3"],
        ["demo", "--epochs", "0"],
        ["demo", "--epochs", "2.5"],
        ["demo", "--plot", "curve"],
        ["demo", "--plot", "curve.tuna"],
        ["doctor", "--max-call-seconds", "nan"],
        ["doctor", "--backend", "abacus"],
        ["evaluate"],
        ["evaluate", "accuracy"],
        ["evaluate", "accuracy", *FILES, "--input=names={files}/x.npy"],
        ["evaluate", "accuracy", *FILES, "--weights", "{files}/short.npy"],
        ["evaluate", "accuracy", *FILES, "--mask", "{files}/short.npy"],
        ["evaluate", "accuracy", *FILES, *["--weights={files}/short.npy"] * 2],
        ["evaluate", "accuracy", *FILES, "--param", "top_k=0"],
        ["evaluate", "bleu", "--input=hypotheses={files}/latin.txt",
         "--input=references={files}/latin.txt"],
        ["healthcheck", "extra"],
        ["losses", "--plot", "picture.tuna"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_it_is_refused_in_one_line(files: Path, arguments: list[str]) -> None:
    done = lossd(*(argument.replace("{files}", str(files)) for argument in arguments))

    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2, done.output
    assert done.output.splitlines()[-1].startswith("Error: "), done.output


def test_nothing_is_answered_with_the_help() -> None:
    done = lossd()

    assert done.output == lossd("--help").output
    assert done.exit_code in (0, 2)  # before click 8.2, and since


@pytest.mark.parametrize(
    "flag", ["--tls", "--tls-ca=x.npy", "--tls-server-name=a", "--client-cert=x.npy",
             "--client-key=x.npy", "--token-file=x.npy"],
)  # fmt: skip
@pytest.mark.parametrize(
    "arguments",
    [["bench", "huber"], ["compute", "cross_entropy", *FILES], ["doctor"],
     ["evaluate", "accuracy", *FILES], ["losses"], ["metrics"]],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_what_says_how_to_reach_a_server_comes_with_where_it_is(
    files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], flag: str
) -> None:
    if arguments[0] == "doctor" and flag.startswith("--token"):
        pytest.skip("without a server it is a setting of one")
    monkeypatch.chdir(files)
    done = lossd(*(argument.replace("{files}", str(files)) for argument in arguments), flag)

    assert done.exit_code == 2, done.output
    name, where = flag.partition("=")[0], "--server" if arguments == ["doctor"] else "--address"
    assert done.output.splitlines()[-1] == f"Error: {name} must come with {where}, got it alone"


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [(["cross_entropy"], "64"), (["cross_entropy", "--param=class_axis=2"], "64x5"),
     (["dice", "--param=class_axis=0"], "7"), (["triplet"], "64")],
    ids=lambda one: " ".join(one) if isinstance(one, list) else one,
)  # fmt: skip
def test_a_shape_that_cannot_be_is_told_as_it_was_given(arguments: list[str], shape: str) -> None:
    done = lossd("bench", *arguments, "--shape", shape)

    assert done.exit_code == 2, done.output
    assert done.output.splitlines()[-1].endswith(f", got {shape}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "--json={path}"],
        ["bench", "--plot={path}"],
        ["compute", "cross_entropy", *FILES, "--output={path}"],
        ["demo", "--plot={path}"],
        ["evaluate", "accuracy", *FILES, "--output={path}"],
        ["losses", "--plot={path}"],
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-1]}",
)
def test_an_output_is_tried_before_the_work(files: Path, arguments: list[str]) -> None:
    for path in nowhere(files, "out.npz" if "--output={path}" in arguments else "out.png"):
        started = time.monotonic()
        done = lossd(*(argument.format(files=files, path=path) for argument in arguments))

        assert done.exit_code == 2, done.output
        assert path in done.output.splitlines()[-1]
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1:99999",
        "unix:/no/such",
        "",
        "a b",
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "--address"],
        ["compute", "cross_entropy", *FILES, "--address"],
        ["doctor", "--server"],
        ["evaluate", "accuracy", *FILES, "--address"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_address_where_nothing_answers_is_said_soon(
    monkeypatch: pytest.MonkeyPatch, files: Path, arguments: list[str], address: str
) -> None:
    monkeypatch.setattr("lossd.cli.reaching._SECONDS", 1.0)
    started = time.monotonic()
    done = lossd(*(argument.replace("{files}", str(files)) for argument in arguments), address)

    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (1, 2), done.output
    assert done.output.splitlines()[-1].startswith("Error: "), done.output
    assert time.monotonic() - started < 15


def test_an_axis_of_classes_takes_a_shape_that_has_it() -> None:
    one = ("--seconds=0.1", "--callers=1", "--transport=unix", "--json")
    done = lossd("bench", "cross_entropy", "--param=class_axis=2", "--shape=4x5x6", *one)

    assert done.exit_code == 0, done.output


def test_trying_an_output_leaves_everything_as_it_was(files: Path) -> None:
    (files / "kept.npz").write_bytes(b"kept")
    for name in ("kept.npz", "new.npz"):
        lossd("compute", "huber", "--output", files / name)

    assert (files / "kept.npz").read_bytes() == b"kept"
    assert not (files / "new.npz").exists()


@pytest.fixture
def stored(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory at hand, with a batch, its names by links, networks and a report."""
    monkeypatch.chdir(files)
    np.savez("in.npz", x=np.load("x.npy"), y=np.load("y.npy"))
    Path("linked.npz").symlink_to("in.npz")
    Path("hard.npz").hardlink_to("in.npz")
    Path("weights.safetensors").hardlink_to("in.npz")
    Path("networks").mkdir()
    Path("networks/vgg16.safetensors").write_bytes(b"kept")
    Path("before.json").write_text("[]")
    return files


COMPUTE = ["compute", "cross_entropy", "--input=targets=y.npy"]
EVALUATE = ["evaluate", "accuracy", "--input=targets=y.npy"]


@pytest.mark.parametrize(
    "arguments",
    [
        [*COMPUTE, "--input=predictions=in.npz:x", "--output=in.npz"],
        [*COMPUTE, "--input=predictions=in.npz:x", "--output=linked.npz"],
        [*COMPUTE, "--input=predictions=linked.npz:x", "--output=in.npz"],
        [*COMPUTE, "--input=predictions=in.npz:x", "--output=hard.npz"],
        [*COMPUTE, "--input=predictions=in.npz:x", "--output=weights.safetensors"],
        [*COMPUTE, "--input=predictions=in.npz:x", "--output=no/../in.npz"],
        [*COMPUTE, "--input=predictions=x.npy", "--weights=in.npz:y", "--output=in.npz"],
        [*COMPUTE, "--input=predictions=x.npy", "--mask=in.npz:y", "--output=in.npz"],
        [*COMPUTE, "--input=predictions=x.npy", "--networks=networks",
         "--output=networks/vgg16.safetensors"],
        [*COMPUTE, "--input=predictions=x.npy", "--address=localhost:1", "--token-file=in.npz",
         "--output=in.npz"],
        [*EVALUATE, "--input=predictions=in.npz:x", "--output=in.npz"],
        [*EVALUATE, "--input=predictions=in.npz:x", "--output=linked.npz"],
        [*EVALUATE, "--input=predictions=x.npy", "--weights=in.npz:y", "--output=in.npz"],
        [*EVALUATE, "--input=predictions=x.npy", "--address=localhost:1", "--tls-ca=in.npz",
         "--output=in.npz"],
        ["bench", "--compare", "before.json", "before.json", "--json=before.json"],
        ["bench", "--address=localhost:1", "--token-file=before.json", "--json=before.json"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_is_read_is_not_written(stored: Path, arguments: list[str]) -> None:
    (stored / "no").mkdir()
    kept = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    done = lossd(*arguments)

    flag, _, path = arguments[-1].lstrip("-").partition("=")
    path = str(Path(path))
    assert done.exit_code == 2, done.output
    assert done.output.splitlines()[-1] == f"Error: {flag} must not be an input, got {path}"
    assert kept == {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}


def test_stdin_is_a_file_that_is_read_too(stored: Path) -> None:
    given = ["compute", "cross_entropy", "--input=predictions=-", "--input=targets=y.npy"]
    with Path("in.npz").open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "lossd", *given, "--output=in.npz"],
            stdin=file, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "Error: output must not be an input, got in.npz"
    assert np.load(stored / "in.npz")["x"].shape == (8, 3)


@pytest.mark.usefixtures("stored")
def test_two_outputs_are_two_files() -> None:
    for name in ("both.svg", "before.svg"):
        if name == "before.svg":
            Path(name).symlink_to("before.json")
        done = lossd("bench", f"--json={name}", f"--plot=./{name}")

        assert done.exit_code == 2, done.output
        assert done.output.splitlines()[-1] == f"Error: json and plot must be two files, got {name}"


@pytest.mark.usefixtures("stored")
def test_an_output_may_be_any_other_file() -> None:
    given = [*COMPUTE, "--input=predictions=x.npy"]
    for name in ("new.npz", "new.npz", "in.npz", "new.safetensors"):
        assert lossd(*given, f"--output={name}").exit_code == 0

    with np.load("in.npz") as written:
        assert set(written) == {"gradients.predictions", "per_example"}


@pytest.mark.parametrize("arguments", [COMPUTE, EVALUATE], ids=lambda words: words[0])
def test_stdin_that_was_closed_is_said(stored: Path, arguments: list[str]) -> None:
    line = shlex.join([sys.executable, "-m", "lossd", *arguments, "--input=predictions=-"])
    done = subprocess.run(
        ["sh", "-c", f"{line} <&-"], capture_output=True, text=True, check=False, cwd=stored
    )

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "Error: predictions must be a readable array, got -: stdin is closed"
    )


def options() -> Iterator[tuple[str, click.Option]]:
    for name, one in subcommands().items():
        for option in one.params:
            if isinstance(option, click.Option):
                yield name, option


def test_every_number_has_bounds_and_every_file_to_write_is_tried() -> None:
    checked = {setting.name for setting in settings()}  # by the configuration
    for name, option in options():
        if option.name in checked:
            continue
        kind = option.type
        if isinstance(kind, click.types.IntParamType):
            assert isinstance(kind, click.IntRange), (name, option.name)
            assert None not in (kind.min, kind.max), (name, option.name)
        if isinstance(kind, click.types.FloatParamType):
            assert isinstance(kind, Real), (name, option.name)
            assert None not in (kind.min, kind.max), (name, option.name)
        if isinstance(kind, click.Path) and not kind.exists:
            assert isinstance(kind, OutputFile), (name, option.name)


def test_a_file_to_write_that_has_no_name_is_refused_at_once() -> None:
    written = [(name, o) for name, o in options() if isinstance(o.type, OutputFile)]
    assert written
    for name, option in written:
        with pytest.raises(click.BadParameter, match="must name a file, got an empty name"):
            option.type.convert("", option, None)
        done = lossd(name, f"{option.opts[0]}=")
        assert done.exit_code == 2, (name, option.name)


@pytest.mark.parametrize("text", ["1_0", "\N{FULLWIDTH DIGIT ONE}"])
@pytest.mark.parametrize("name", subcommands())
def test_numbers_of_all_flags_have_plain_digits(name: str, text: str) -> None:
    """To Python they are 10 and 1."""
    for option in subcommands()[name].params:
        if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType):
            convert: Any = option.type.convert
            with pytest.raises(click.BadParameter, match="is not a number of plain digits"):
                convert(text, option, None)


def test_numbers_of_variables_have_plain_digits() -> None:
    done = CliRunner().invoke(command, ["config"], env={"LOSSD_MAX_CALLS": "1_0"})
    assert done.exit_code == 2
    assert "not a number of plain digits" in done.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("what", ["compute cross_entropy", "evaluate accuracy"])
def test_a_full_disk_is_a_failure_and_no_wrong_use(files: Path, what: str) -> None:
    full = files / "full.npz"
    full.symlink_to("/dev/full")
    given = [one.replace("{files}", str(files)) for one in FILES]
    done = subprocess.run(
        [sys.executable, "-m", "lossd", *what.split(), *given, "--output", full],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == f"Error: output must be writable, got {full}: No space left on device\n"


def test_the_contract_is_installed_with_its_comments() -> None:
    # Pages read them; a packager who leaves the .proto files out would have empty pages.
    assert comments()["Huber.delta"].startswith("Residual at which the loss turns linear")
    assert comments()["WeightedTerm.weight"]
