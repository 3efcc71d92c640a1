"""Inputs that are left out or misnamed are refused before a framework traces the call."""

from typing import Any

import pytest

from lossd import v1
from lossd.client import InvalidRequestError, UnavailableError
from lossd.client.declared import DeclaredInputs
from lossd.client.differentiability import Differentiability


class Server:
    """A client of a server that may be away, or be replaced by a newer one."""

    def __init__(self, **inputs: bool) -> None:
        self.inputs = inputs  # by name, whether one may be left out
        self.is_away = False
        self.questions = 0
        self._known: tuple[str, ...] = ()

    def input_names(self, loss: Any, *, again: bool = False) -> tuple[str, ...]:
        assert loss == "huber"
        if again or not self._known:
            self._known = tuple(self.inputs)
        return self._known

    def list_losses(self) -> v1.ListLossesResponse:
        self.questions += 1
        if self.is_away:
            raise UnavailableError("nobody is there")
        kind = v1.DIFFERENTIABILITY_DEFAULT
        inputs = [
            v1.InputDescription(name=name, optional=is_optional, differentiability=kind)
            for name, is_optional in self.inputs.items()
        ]
        return v1.ListLossesResponse(losses=[v1.LossDescription(name="huber", inputs=inputs)])


def declared_by(server: Server) -> DeclaredInputs:
    return DeclaredInputs(server, "huber", beside=("weights",), before=("timeout",))


def test_a_question_that_failed_is_asked_again() -> None:
    server = Server(predictions=False, targets=False)
    declared = declared_by(server)
    server.is_away = True
    with pytest.raises(UnavailableError):
        declared.check({"predictions": 1})
    server.is_away = False
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="targets must be given, got none"):
            declared.check({"predictions": 1})
    declared.check({"predictions": 1, "targets": 1})


def test_what_is_right_is_asked_for_once() -> None:
    server = Server(predictions=False, targets=False, variances=True)
    declared = declared_by(server)
    for _ in range(3):
        declared.check({"predictions": 1, "targets": 1})
    assert server.questions == 1


def test_a_newer_server_may_take_more_and_need_less() -> None:
    server = Server(predictions=False, targets=False)
    declared = declared_by(server)
    with pytest.raises(InvalidRequestError, match="targets must be given"):
        declared.check({"predictions": 1})
    with pytest.raises(InvalidRequestError, match="got 'novelty'"):
        declared.check({"predictions": 1, "targets": 1, "novelty": 1})
    server.inputs = {"predictions": False, "targets": True, "novelty": True}
    declared.check({"predictions": 1})
    declared.check({"predictions": 1, "targets": 1, "novelty": 1})


def test_a_newer_server_may_have_more_gradients() -> None:
    server = Server(predictions=False)
    possible = Differentiability(server, v1.Huber(), remedy="stop_gradient")
    for _ in range(2):
        possible.check(["predictions"])
    assert server.questions == 1
    with pytest.raises(InvalidRequestError, match="gradients must be among predictions for Huber"):
        possible.check(["targets"])
    server.inputs["targets"] = False
    possible.check(["predictions", "targets"])
