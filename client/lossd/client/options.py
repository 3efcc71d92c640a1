"""The options of channels to lossd, for both clients."""

import json

SERVICE = "lossd.v1.LossService"
EVALUATION_SERVICE = "lossd.v1.EvaluationService"
SHARED_MEMORY_SERVICE = "lossd.v1.SharedMemoryService"
DEVICE_MEMORY_SERVICE = "lossd.v1.DeviceMemoryService"

# Health checking works with round_robin only: pick_first, the default, silently ignores it.
_service_config = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": SERVICE},
}


def channel_options() -> list[tuple[str, int | str]]:
    """Returns the options of a channel, name by name."""
    return [
        # The server sets the limits; gRPC's own 4 MiB would cut off its answers.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # Nor is an answer compressed, or it would take up to a thousand times what was sent.  Some
        # versions inflate a short one before they look whether it may be.
        ("grpc.compression_enabled_algorithms_bitset", 1),  # of "identity" alone
        ("grpc.per_message_decompression", 0),
        # A connection that died silently, as behind a NAT, is found within 30 s plus 10 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # gRPC's own retry is silently off above 256 KiB, so that it would work for small batches
        # only; ``retry`` repeats calls of any size.
        ("grpc.enable_retries", 0),
        # Every healthy address gets its share, and a draining server gets none.
        ("grpc.service_config", json.dumps(_service_config)),
        # Tensors inside a cluster are not meant for the proxy of the environment's http_proxy.
        ("grpc.enable_http_proxy", 0),
        # A server that restarts is found again within a second; gRPC would wait up to 2 minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # So is one that restarts with another address; gRPC would look it up at most every 30 s.
        # No option is for names that are missing, which ``moving`` is.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        # In spite of its name, this limits a single attempt.
        ("grpc.min_reconnect_backoff_ms", 5_000),
    ]
