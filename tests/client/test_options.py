import json
from typing import Any

import grpc
import pytest

from lossd import v1
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


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_an_answer_that_is_compressed_is_not_taken(serve: Any, compression: Any) -> None:
    """It may be a thousand times as long as what came, and nothing limits how long it is."""

    def compressed(_: Any, context: Any) -> Any:
        context.set_compression(compression)
        return v1.ComputeLossResponse(backend="x" * 100_000)

    address = serve(ComputeLoss=compressed).address
    with grpc.insecure_channel(address, channel_options()) as channel:
        compute: Any = channel.unary_unary("/lossd.v1.LossService/ComputeLoss")
        try:
            answer = compute(b"", timeout=5)
        except grpc.RpcError as error:
            refused: Any = error
            assert refused.code() in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED}
        else:  # of a version that looks too late, but inflates nothing
            assert len(answer) < 1000
