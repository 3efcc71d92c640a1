"""``lossd doctor --server``: it looks at a server that runs, and at its losses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lossd.cli import command
from lossd.cli.served import running_server
from lossd.client import LossClient
from lossd.client.result import LossResult
from lossd.losses import LOSSES, Shape
from lossd.networks import save, worked_networks
from lossd.serving.config import settings


def lossd(*arguments: object, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(command, [str(argument) for argument in arguments])


def found(done: Result) -> Mapping[str, dict[str, Any]]:
    return {one["thing"]: one for one in json.loads(done.stdout)}


def test_it_says_what_a_server_is_and_tests_its_losses(tmp_path: Path) -> None:
    save(tmp_path, worked_networks()["worked"])
    flags = ("--log-level", "warning", "--max-calls", "7", "--networks", str(tmp_path))
    with running_server(*flags) as server:
        done = lossd("doctor", "--server", server.address, "--json")
        table = lossd("doctor", "--server", server.address, COLUMNS="80")

    assert done.exit_code == 0, done.output
    said = found(done)
    assert said["calls"]["found"] == "at most 7 in flight"
    assert said["networks"]["found"] == "worked (sequential)"
    count = int(said["losses"]["found"].split()[0])
    assert said["losses"]["found"] == f"{count} of {count} checks right"
    assert count > 2 * sum(loss.shape is not Shape.IMAGES for loss in LOSSES.values())
    assert "at most 7 in flight" in table.output
    assert max(map(len, table.output.splitlines())) <= 80


def test_a_loss_that_a_server_computes_wrong_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    right = LossClient.compute

    def wrong(client: LossClient, loss: Any, *inputs: Any, **given: Any) -> LossResult:
        given = {name: 2 * one if name == "targets" else one for name, one in given.items()}
        return right(client, loss, *inputs, **given)

    monkeypatch.setattr(LossClient, "compute", wrong)
    with running_server("--log-level", "warning") as server:
        done = lossd("doctor", "--server", server.address, COLUMNS="200")

    assert done.exit_code == 1
    assert "squared_error in float32" in done.output


def test_flags_of_a_server_to_come_are_refused_beside_one_that_runs() -> None:
    done = lossd("doctor", "--server", "127.0.0.1:1", "--threads", "2")

    assert (done.exit_code, "--threads must be left out" in done.output) == (2, True)


def test_variables_of_a_server_are_not_those_of_its_client(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("0123456789abcdef\nfedcba9876543210\n")
    one = tmp_path / "token"
    one.write_text("fedcba9876543210\n")
    own = {
        "LOSSD_TOKEN_FILE": str(tokens),
        "LOSSD_THREADS": "abc",
        "LOSSD_BACKEND": "abacus",
        "LOSSD_JWT_ISSUER": "https://example.com",
        "LOSSD_TLS_CERT": str(tmp_path / "none"),
    }
    with running_server("--log-level", "warning", "--token-file", str(tokens)) as server:
        there = ("doctor", "--server", server.address)
        proven = lossd(*there, "--token-file", one, **own)
        plain = lossd(*there, **own)
        several = lossd("doctor", "--token-file", tokens, "--server", server.address)

    assert proven.exit_code == 0, proven.output
    assert (plain.exit_code, "must give a token" in plain.output) == (1, True), plain.output
    said = f"Error: token file must hold one token, got 2 lines in {tokens}"
    assert (several.exit_code, several.output.splitlines()[-1]) == (2, said)
    assert lossd("doctor", **own).exit_code == 2  # of this machine they are


def test_doctor_and_config_answer_programs() -> None:
    doctor = lossd("doctor", "--backend", "numpy", "--max-inflight-bytes", "1000", "--json")
    config = lossd("config", "--threads", "3", "--json", LOSSD_MAX_CALLS="9")
    values = {one["flag"]: (one["value"], one["from"]) for one in json.loads(config.stdout)}

    assert "checks right" in found(doctor)["losses"]["found"]
    assert values.keys() == {setting.flag for setting in settings()}
    assert values["--threads"] == (3, "flag")
    assert values["--max-calls"] == (9, "environment")
