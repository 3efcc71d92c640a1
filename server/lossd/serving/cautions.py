"""Cautions of settings that are no mistakes in themselves, and are seldom meant.

``lossd config --check``, ``lossd doctor`` and the log of a server that starts say the same ones.
"""

import datetime as dt
import time
from collections.abc import Iterator

from lossd.serving import addresses
from lossd.serving.access.entrance import Entrance, unproven
from lossd.serving.config import Config

OPEN = (
    "the address is open to other hosts, and nobody has to prove who he is: "
    "set tls_client_ca, token_file, access or jwks"
)


def cautions(config: Config, entered: Entrance) -> Iterator[str]:
    """Yields a text for each, which says what is wrong and what would mend it."""
    if config.is_open:
        yield OPEN
    yield from _proofs(config, entered)
    if config.max_message_bytes > config.max_inflight_bytes:
        yield (
            f"max_message_bytes allows {config.max_message_bytes}, but messages above "
            f"max_inflight_bytes are refused (TOO_LARGE): set it to {config.max_inflight_bytes}"
        )
    yield from _expired(entered)


def _proofs(config: Config, entered: Entrance) -> Iterator[str]:
    rules = entered.rules
    has_tokens = config.token_file or config.jwks or (rules is not None and rules.tokens)
    if has_tokens and entered.tls is None and not addresses.is_here(config.address):
        yield (
            "tokens come over the network in plain text, and whoever reads one can use it: "
            "set tls_cert and tls_key"
        )
    if rules is not None:
        for proof, setting in unproven(config, rules).items():
            yield f"access knows callers by {proof}, which none can prove: set {setting}"


def _expired(entered: Entrance) -> Iterator[str]:
    now = time.time()
    for setting, pair in entered.certificates().items():
        if pair.value.expires < now:
            yield f"{setting} expired on {_date(pair.value.expires)}: callers refuse it"
        authority = pair.value.client_ca_expires
        if authority is not None and authority < now:
            yield (
                f"tls_client_ca has an authority that expired on {_date(authority)}: "
                "whoever has a certificate of it cannot connect"
            )


def _date(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).date().isoformat()
