"""Everything that lets callers in, made of the settings: certificates, policy and gate."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import grpc

from lossd.serving import addresses
from lossd.serving.access import certificates, json_web_tokens, rules, tokens
from lossd.serving.access.certificates import Pair
from lossd.serving.access.gate import Gate
from lossd.serving.access.policy import Policy
from lossd.serving.access.reloading import Reloaded
from lossd.serving.access.rules import PROOFS, Rules
from lossd.serving.access.tokens import AccessError
from lossd.serving.config import Config

# The settings that prove what rules know callers by; tokens prove themselves.
_PROVEN_BY = MappingProxyType({"certificates": "tls_client_ca", "subjects": "jwks"})


@dataclass(frozen=True, slots=True)
class Entrance:
    """How one server is entered.  ``gate`` is none where nothing has to be looked at.

    ``tls`` and ``pages_tls`` are the certificates of the calls and of the pages, ``reloaded`` all
    files by their settings.
    """

    gate: Gate | None
    tls: Reloaded[Pair] | None
    pages_tls: Reloaded[Pair] | None
    reloaded: Mapping[str, Reloaded[Any]]
    _is_certified: bool

    def credentials(self) -> grpc.ServerCredentials | None:
        """Returns the credentials that gRPC serves with; None for plain text."""
        tls = self.tls
        if tls is None:
            return None
        return certificates.credentials(lambda: tls.value, certified=self._is_certified)

    @property
    def rules(self) -> Rules | None:
        """The newest rules; None without any."""
        found = self.reloaded.get("access")
        return None if found is None else found.value

    def certificates(self) -> Mapping[str, Reloaded[Pair]]:
        """Returns the certificates by their settings."""
        found = {"tls_cert": self.tls, "metrics_tls_cert": self.pages_tls}
        return {setting: pair for setting, pair in found.items() if pair is not None}


def build(config: Config, failed: Callable[[str], None] = lambda _: None) -> Entrance:
    """Builds the entrance of a server.

    ``failed`` is told the setting of a file that has changed and cannot be used.

    Raises:
        AccessError: if a file cannot be used to begin with, the rules have callers of whom none
            could come in, or there are tokens beside the rules.
    """
    if config.token_file and config.access:
        raise AccessError(
            "access must be set without token_file, got both: whoever has a token of the file "
            "could call what no rule grants, so move its tokens into the rules"
        )
    files = _Files(failed)
    tls = files.pair(
        "tls_cert", (config.tls_cert, config.tls_key, *filter(None, [config.tls_client_ca]))
    )
    pages_tls = files.pair("metrics_tls_cert", (config.metrics_tls_cert, config.metrics_tls_key))
    policy = _policy(config, files)
    first = policy()
    # Callers of other hosts have shares, whether or not they have to prove anything.
    is_looked_at = not first.is_open or not addresses.is_here(config.address)
    is_secure = tls is not None
    gate = None
    if is_secure or is_looked_at:
        by_port = isinstance(addresses.parse(config.address), addresses.Port)
        gate = Gate(policy, is_secure=is_secure, by_port=by_port)
    return Entrance(
        gate=gate,
        tls=tls,
        pages_tls=pages_tls,
        reloaded=files.made,
        _is_certified=bool(config.tls_client_ca),
    )


def unproven(config: Config, rules: Rules) -> Mapping[str, str]:
    """Returns what rules know callers by and nobody can prove, with the setting that it takes."""
    return {
        proof: setting
        for proof, setting in _PROVEN_BY.items()
        if getattr(rules, proof) and not getattr(config, setting)
    }


def _check_proofs(config: Config, rules: Rules) -> None:
    """Raises AccessError if no caller of the rules could ever prove to be one."""
    missing = unproven(config, rules)
    proven = {proof for proof in PROOFS if getattr(rules, proof)} - missing.keys()
    if missing and not proven and rules.anonymous is None:
        raise AccessError(
            f"{' or '.join(missing.values())} must be set where access knows callers by "
            f"{' and '.join(missing)} alone, got none: nobody could come in"
        )


def _policy(config: Config, files: "_Files") -> Callable[[], Policy]:
    def checked_rules(content: bytes) -> Rules:
        found = rules.read(content)
        _check_proofs(config, found)
        return found

    def subject(content: bytes) -> json_web_tokens.Subject:
        return json_web_tokens.verifier(
            content, issuer=config.jwt_issuer, audience=config.jwt_audience
        )

    parts: Mapping[str, Reloaded[Any] | None] = {
        "tokens": files.one("token_file", config.token_file, tokens.read_lines),
        "rules": files.one("access", config.access, checked_rules),
        "subject": files.one("jwks", config.jwks, subject),
    }
    is_certified = bool(config.tls_client_ca)

    def policy() -> Policy:
        given = {name: part.value for name, part in parts.items() if part is not None}
        return Policy(**given, certified=is_certified)

    return policy


class _Files:
    """Returns what is made from the files of the settings that are set."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self.made: dict[str, Reloaded[Any]] = {}

    def one(self, setting: str, path: str, make: Callable[[bytes], Any]) -> Reloaded[Any] | None:
        """Returns what is made from a file, if it is set."""
        return self._make(setting, [path], make) if path else None

    def pair(self, setting: str, paths: Sequence[str]) -> Reloaded[Pair] | None:
        """Returns a certificate and its key, if they are set."""
        make = functools.partial(certificates.pair, setting=setting)
        return self._make(setting, paths, make) if paths[0] else None

    def _make(self, setting: str, paths: Sequence[str], make: Callable[..., Any]) -> Reloaded[Any]:
        made = self.made[setting] = Reloaded(setting, paths, make, self._failed)
        return made
