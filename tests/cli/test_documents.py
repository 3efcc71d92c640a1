"""The commands that the documents show do what they say."""

import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lossd.cli import command
from tests.certificates import Authority
from tests.end_to_end.conftest import serve

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENDS = {"&&", "&", ";", "|"}  # of a command in a line
LOOPS = {"until", "while", "do", "done", "!"}  # words of the shell before one
# What is not typed here.
SKIPPED = {
    "completion": "tests/cli/test_completion.py installs it",
    "demo": "tests/end_to_end/test_service.py runs it",
}


def commands(page: Path) -> Iterator[str]:
    """Yields the commands of lossd in the blocks of a page, with the variables before them."""
    for block in BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";")
            lexer.whitespace_split, lexer.commenters = True, "#"
            words = [word for word in lexer if word not in LOOPS]
            parts = [list(ws) for is_end, ws in groupby(words, ENDS.__contains__) if not is_end]
            for part in parts:
                program = next((word for word in part if "=" not in word), "")
                if Path(program).name == "lossd":
                    yield shlex.join(part)


TYPED = [
    pytest.param(line, id=f"{page.name}: {line}")
    for pattern in ("*.md", "docs/*.md", "deploy/**/*.md", "examples/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if "node_modules" not in page.parts
    for line in commands(page)
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(8)
    logits = random.standard_normal((50, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = random.integers(0, 4, 50)
    for name, array in {
        "logits": logits, "labels": labels, "probabilities": shares, "weights": random.random(50),
    }.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "batch.npz", logits=logits, labels=labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command's arguments, with its variables set and its files there."""
    authority = Authority()
    (folder / "ca.crt").write_bytes(authority.certificate)
    (folder / "token").write_text("nobody-knows-this\n")
    for found, name in zip(
        authority.issue("lossd").write(folder, "tls"), ("crt", "key"), strict=True
    ):
        found.rename(folder / f"tls.{name}")
    words = shlex.split(line)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    assert Path(words.pop(0)).name == "lossd"
    for name in ("$TMPDIR", "/tmp/lossd", "/dev/shm/lossd"):  # noqa: S108 - as the page has it
        words = [word.replace(name, str(folder)) for word in words]
    return words


def shown(*arguments: str) -> str:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(command, arguments)
    assert done.exit_code == 0, done.output
    assert "--json" in arguments or max(map(len, done.stdout.splitlines()), default=0) <= 80
    return done.stdout


@pytest.fixture(params=TYPED)
def line(request: pytest.FixtureRequest) -> str:
    """A command of the documents."""
    return str(request.param)


def test_a_command_of_the_documents_works(folder: Path, typed: list[str]) -> None:
    name, *arguments = typed
    if name in SKIPPED:
        pytest.skip(SKIPPED[name])
    if name == "serve":
        if "--tracing" in arguments:
            pytest.importorskip("opentelemetry.sdk", reason="needs the extra 'otel'")
        starts(arguments)
        return
    if name == "bench":
        arguments += ["--seconds", "0.1", "--transport", "tcp"]
        if "--shape" not in arguments:  # those that it measures then take a quarter of a minute
            arguments += ["--shape", "32x10"]
    if name == "top":
        with serve("--backend", "numpy") as server:
            assert "ready" in shown(name, server.metrics_url, *arguments)
        return
    if "--address" not in arguments:
        assert shown(name, *arguments).strip()
        if "--output" in arguments:
            assert (folder / arguments[-1]).exists()
        return
    place = arguments.index("--address") + 1
    secured = ("--tls-cert", "tls.crt", "--tls-key", "tls.key")
    with serve("--backend", "numpy", *(secured if "--tls-ca" in arguments else ())) as server:
        arguments[place] = f"localhost:{server.address.rpartition(':')[2]}"
        shown(name, *arguments)


def starts(arguments: list[str]) -> None:
    """Runs a server with these arguments, on ports that are free."""
    rest, address = list(arguments), "127.0.0.1:0"
    if "--address" in rest:
        place = rest.index("--address")
        address = rest[place + 1].replace(":50051", ":0")
        del rest[place : place + 2]
    with serve(*rest, address=address) as server:
        assert server.end() == 0
