"""Everything that lets callers in, made of the settings: certificates, policy and gate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from lossd.serving import addresses
from lossd.serving.access import certificates, json_web_tokens, rules, tokens
from lossd.serving.access.certificates import Pair
from lossd.serving.access.gate import Gate
from lossd.serving.access.policy import Policy
from lossd.serving.access.reloading import Reloaded, Reloader
from lossd.serving.config import Config
from lossd.serving.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Entrance:
    """How one server is entered.  ``gate`` is none where nothing has to be looked at.

    ``tls`` and ``pages_tls`` are the certificates of the calls and of the pages.
    """

    gate: Gate | None
    tls: Reloaded[Pair] | None
    pages_tls: Reloaded[Pair] | None
    _is_certified: bool
    _reloader: Reloader

    def credentials(self) -> grpc.ServerCredentials | None:
        """What gRPC serves with; None for plain text."""
        tls = self.tls
        if tls is None:
            return None
        return certificates.credentials(lambda: tls.value, certified=self._is_certified)

    def close(self) -> None:
        """Reads no file any more."""
        self._reloader.close()


def build(config: Config, telemetry: Telemetry) -> Entrance:
    """Builds the entrance of a server, and reads its files again whenever they change.

    Raises:
        AccessError: if one of them cannot be used.
    """
    found = _Files(telemetry)
    tls = found.pair(
        "tls_cert", (config.tls_cert, config.tls_key, *filter(None, [config.tls_client_ca]))
    )
    pages_tls = found.pair("metrics_tls_cert", (config.metrics_tls_cert, config.metrics_tls_key))
    policy = _policy(config, found)
    is_needed = tls is not None or not policy().is_open or _may_be_shared(config)
    return Entrance(
        gate=Gate(policy, is_secure=tls is not None) if is_needed else None,
        tls=tls,
        pages_tls=pages_tls,
        _is_certified=bool(config.tls_client_ca),
        _reloader=Reloader(found.all),
    )


def _may_be_shared(config: Config) -> bool:
    """Whether callers can come from other hosts, who each have a share."""
    return not addresses.is_here(config.address)


def _policy(config: Config, files: "_Files") -> Callable[[], Policy]:
    def subject(content: bytes) -> json_web_tokens.Subject:
        return json_web_tokens.verifier(
            content, issuer=config.jwt_issuer, audience=config.jwt_audience
        )

    parts: Mapping[str, Reloaded[Any] | None] = {
        "tokens": files.one("token_file", config.token_file, tokens.read_lines),
        "rules": files.one("access", config.access, rules.read),
        "subject": files.one("jwks", config.jwks, subject),
    }
    is_certified = bool(config.tls_client_ca)

    def policy() -> Policy:
        given = {name: part.value for name, part in parts.items() if part is not None}
        return Policy(**given, certified=is_certified)

    return policy


class _Files:
    """The files of the settings that are set."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self.all: list[Reloaded[Any]] = []

    def one(self, setting: str, path: str, make: Callable[[bytes], Any]) -> Reloaded[Any] | None:
        """What is made of a file, if it is set."""
        return self._made(setting, [path], make) if path else None

    def pair(self, setting: str, paths: Sequence[str]) -> Reloaded[Pair] | None:
        """A certificate and its key, if they are set."""
        if not paths[0]:
            return None
        made = self._made(setting, paths, certificates.pair)
        self._telemetry.watch_certificate(setting, lambda: made.value.expires)
        return made

    def _made(self, setting: str, paths: Sequence[str], make: Callable[..., Any]) -> Reloaded[Any]:
        made = Reloaded(setting, paths, make, self._telemetry.reload_failed)
        self._telemetry.watch_files([setting])
        self.all.append(made)
        return made
