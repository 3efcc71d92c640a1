"""``lossd doctor --server``: it looks at a server that runs, and at its losses."""

import json
import socket
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


def looked_at(*flags: str, **variables: str) -> tuple[int, list[dict[str, Any]]]:
    """Returns the status of ``lossd doctor`` and its findings without those of losses."""
    small = ("--backend", "numpy", "--max-inflight-bytes", "1000000", "--json")
    done = lossd("doctor", *small, *flags, **variables)
    return done.exit_code, json.loads(done.stdout)


def test_doctor_warns_of_an_address_where_somebody_listens(tmp_path: Path) -> None:
    def warned(*flags: str) -> list[str]:
        status, findings = looked_at(*flags)
        mine = [one for one in findings if one["thing"].startswith("address")]
        assert (status, len(mine)) == (0, 2)
        return [one["found"] for one in mine if one["is_warning"]]

    with socket.socket(socket.AF_UNIX) as own, socket.create_server(("127.0.0.1", 0)) as pages:
        path, port = tmp_path / "s.sock", str(pages.getsockname()[1])
        own.bind(str(path))
        own.listen()
        calls, page = warned("--address", f"unix:{path}", "--metrics-port", port)
        (alone,) = warned("--address", f"127.0.0.1:{port}", "--metrics-port", "0")

    assert calls == f"address must be free, got unix:{path}: another server listens there"
    assert page.startswith(f"metrics port must be free, got {port}: ")
    assert alone.startswith(f"address must be free, got 127.0.0.1:{port}: ")
    assert warned("--address", f"unix:{path}", "--metrics-port", "0") == []  # left behind


def test_doctor_fails_where_a_server_could_not_listen(tmp_path: Path) -> None:
    nowhere = f"unix:{tmp_path}/none/s.sock"
    status, findings = looked_at("--address", nowhere, "--metrics-host", "192.0.2.1")
    bad = {one["thing"]: one["found"] for one in findings if one["is_bad"]}

    assert status == 1
    assert bad["address"] == f"address must be in a directory that exists, got {nowhere}"
    said = "metrics_host must be one of this machine, got 192.0.2.1: "
    assert bad["address of the pages"].startswith(said)


def test_doctor_warns_of_a_variable_that_is_misspelt() -> None:
    status, findings = looked_at("--address", "127.0.0.1:0", LOSSD_MAX_CALS="1")
    (said,) = (one["found"] for one in findings if one["thing"] == "variables")

    assert (status, said) == (0, "LOSSD_MAX_CALS is no setting: did you mean LOSSD_MAX_CALLS?")


def test_doctor_and_config_answer_programs() -> None:
    doctor = lossd("doctor", "--backend", "numpy", "--max-inflight-bytes", "1000", "--json")
    config = lossd("config", "--threads", "3", "--json", LOSSD_MAX_CALLS="9")
    values = {one["flag"]: (one["value"], one["from"]) for one in json.loads(config.stdout)}

    assert "checks right" in found(doctor)["losses"]["found"]
    assert values.keys() == {setting.flag for setting in settings()}
    assert values["--threads"] == (3, "flag")
    assert values["--max-calls"] == (9, "environment")
