"""``python -m lossd.client ADDRESS``: asks a server how it is, with no more than the client."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lossd import client, v1


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what a server says of itself; returns 0 if it is ready, 1 if it is not."""
    given = _parser().parse_args(arguments)
    tls = client.TLS(given.tls_ca) if given.tls_ca else given.tls
    began = time.monotonic()
    try:
        with client.LossClient(given.address, tls=tls, token=given.token_file) as asked:
            asked.wait_until_ready(given.timeout)
            info = asked.server_info(timeout=given.timeout)
    except client.LossdError as error:
        sys.stderr.write(f"{given.address} is not ready: {error}\n")
        return 1
    lines = _lines(info, time.monotonic() - began)
    width = max(map(len, lines))
    sys.stdout.writelines(f"{name:<{width}}  {text}\n" for name, text in lines.items())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lossd.client", description="Ask a server how it is."
    )
    parser.add_argument("--version", action="version", version=client.__version__)
    parser.add_argument("address", help="host:port, dns:///name:port or unix:/path")
    parser.add_argument(
        "--timeout", type=_seconds, default=5.0, help="seconds to wait (default: 5)"
    )
    parser.add_argument("--tls", action="store_true", help="connect by TLS")
    parser.add_argument("--tls-ca", type=Path, help="authorities of the server; implies --tls")
    parser.add_argument("--token-file", type=Path, help="file with the token that says who asks")
    return parser


def _seconds(text: str) -> float:
    """Returns a number of seconds, which 1_0 is to Python alone."""
    try:
        return float("" if "_" in text else text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text}") from None


def _lines(info: v1.GetServerInfoResponse, seconds: float) -> dict[str, str]:
    told = {
        "status": f"ready, answered in {1000 * seconds:.0f} ms",
        "server": info.version,
        "client": client.__version__,
        "backend": ", ".join(filter(None, (info.backend, info.backend_reason))),
        "device": info.device,
        "transports": ", ".join(info.transports),
        "calls at a time": str(info.limits.concurrent_calls),
        "largest message": f"{info.limits.message_size_bytes} bytes",
    }
    return {name: text for name, text in told.items() if text}  # an older server says less


if __name__ == "__main__":
    sys.exit(main())
