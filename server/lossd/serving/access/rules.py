"""The file that says who may do what: TOML, with a table for each caller.

``docs/operating.md`` has an example with every key.
"""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lossd.serving.access.tokens import AccessError, decoded, digest_of
from lossd.serving.caller import Group, Quotas
from lossd.serving.config import SLOWEST, settings

PROOFS = ("tokens", "certificates", "subjects")
_QUOTAS = ("calls", "inflight_bytes", "calls_per_second", "shm_segments", "device_bytes")
# As for all callers; 0 would mean what the settings say, which a rule that is silent means too.
_BOUNDS = MappingProxyType(
    {
        quota: dataclasses.replace(setting.bounds, low=SLOWEST if setting.type is float else 1)
        for setting in settings()
        for quota in _QUOTAS
        if setting.name == f"caller_{quota}" and setting.bounds is not None
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """The rights of one identity."""

    name: str
    groups: frozenset[Group]
    quotas: Quotas


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules by what proves that they are meant; ``anonymous`` is that for everybody else."""

    tokens: Mapping[bytes, Rule]
    certificates: Mapping[str, Rule]
    subjects: Mapping[str, Rule]
    anonymous: Rule | None


def read(content: bytes) -> Rules:
    """Reads the file.

    Raises:
        AccessError: if it breaks a rule, naming where, or holds nothing but comments: a file that
            is half written may too, and would have everybody refused.
    """
    text = decoded(content, "access")
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise AccessError(f"access must be a TOML file, got one with: {error}") from error
    if not found:
        what = "neither" if text.strip() else "an empty file"
        raise AccessError(f"access must have callers or anonymous, got {what}")
    _check_keys("access", found, ("anonymous", "callers"))
    anonymous = found.get("anonymous")
    callers = _table("callers", found.get("callers", {}))
    proven: dict[str, dict[Any, Rule]] = {proof: {} for proof in PROOFS}
    for name, value in callers.items():
        _add(name, _table(f"callers.{name}", value), proven)
    return Rules(
        **proven,
        anonymous=None if anonymous is None else _anonymous(_table("anonymous", anonymous)),
    )


def _anonymous(table: Mapping[str, Any]) -> Rule:
    _check_keys("anonymous", table, ("may", *_QUOTAS))
    return _rule("", "anonymous", table)


def _add(name: str, table: Mapping[str, Any], proven: Mapping[str, dict[Any, Rule]]) -> None:
    where = f"callers.{name}"
    if not name:
        raise AccessError("callers must have names, got an empty one")
    _check_keys(where, table, ("may", *PROOFS, *_QUOTAS))
    rule = _rule(name, where, table)
    proofs = {proof: _texts(f"{where}.{proof}", table.get(proof, [])) for proof in PROOFS}
    if not any(proofs.values()):
        raise AccessError(f"{where} must have one of {', '.join(PROOFS)}, got none")
    for proof, texts in proofs.items():
        for text in texts:
            key = digest_of(text, f"{where}.{proof}") if proof == "tokens" else text
            if proven[proof].setdefault(key, rule) is not rule:
                raise AccessError(f"{where}.{proof} must be its own, got one of another caller")


def _rule(name: str, where: str, table: Mapping[str, Any]) -> Rule:
    groups = _texts(f"{where}.may", table.get("may"))
    for group in groups:
        if group not in set(Group):
            known = ", ".join(Group)
            raise AccessError(f"{where}.may must hold some of {known}, got {group!r:.40}")
    quotas = {quota: _bounded(f"{where}.{quota}", table.get(quota)) for quota in _QUOTAS}
    return Rule(name, frozenset(map(Group, groups)), Quotas(**quotas))


def _bounded(where: str, value: Any) -> Any:
    """Returns the number, if there is one."""
    quota = where.rpartition(".")[2]
    bounds, may_be_part = _BOUNDS[quota], quota == "calls_per_second"
    kinds = (int, float) if may_be_part else (int,)
    if value is None or (type(value) in kinds and value in bounds):
        return value
    kind = "number" if may_be_part else "whole number"
    raise AccessError(f"{where} must be a {kind} in {bounds}, got {value!r:.40}")


def _texts(where: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise AccessError(f"{where} must be a list of texts, got {type(value).__name__}")
    return value


def _table(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise AccessError(f"{where} must be a table, got {type(value).__name__}")
    return value


def _check_keys(where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuses a misspelt key, which would grant or limit nothing."""
    for key in table:
        if key not in known:
            raise AccessError(f"{where} must have keys of {', '.join(known)}, got {key!r:.40}")
