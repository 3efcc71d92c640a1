import json
from typing import Any

import grpc

from lossd.client.options import channel_options


def test_each_option_is_named_once() -> None:
    names = [name for name, _ in channel_options()]
    assert len(names) == len(set(names))


def test_health_checking_comes_with_the_policy_that_obeys_it() -> None:
    config = json.loads(str(dict(channel_options())["grpc.service_config"]))
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": "lossd.v1.LossService"}


def test_a_proxy_of_the_environment_is_not_used(serve: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with grpc.insecure_channel(serve().address, channel_options()) as channel:
        grpc.channel_ready_future(channel).result(5)
