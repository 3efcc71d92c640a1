"""Says who a caller is and what it may do, from what it proves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lossd.errors import Unauthenticated
from lossd.serving.access import tokens
from lossd.serving.access.json_web_tokens import Subject
from lossd.serving.access.rules import Rule, Rules
from lossd.serving.caller import EVERYTHING, FROM_ELSEWHERE, Caller

TOKEN_CALLER = "token"  # noqa: S105 - the name of a caller with a token of the file


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of the operator.

    ``tokens`` are those of the plain file, ``rules`` those of the file with rules (there is one of
    them at most), ``subject`` verifies JSON web tokens, and ``certified`` tells that every caller
    has a certificate of the operator's authority.  Without rules whoever proves something may do
    what everybody may where nothing is to be proved.
    """

    tokens: frozenset[bytes] = frozenset()
    rules: Rules | None = None
    subject: Subject | None = None
    certified: bool = False

    @property
    def is_open(self) -> bool:
        """Whether anybody may come in."""
        return not (self.takes_tokens or self.rules or self.certified)

    @property
    def takes_tokens(self) -> bool:
        """Whether a token can prove something."""
        return bool(self.tokens or self.subject or (self.rules and self.rules.tokens))

    def identify(self, token: str | None, certificates: Sequence[str], host: str) -> Caller:
        """Returns who calls.  ``certificates`` are the names in its verified one.

        Raises:
            Unauthenticated: if it does not prove what it has to.
        """
        if token is not None and self.takes_tokens:
            return self._by_token(token, host)
        if certificates and self.rules:
            by_name = self.rules.certificates
            found = next((by_name[name] for name in certificates if name in by_name), None)
            if found:
                return _ruled(found, host)
        if certificates and not self.rules and not self.takes_tokens:
            return _trusted(certificates[0], host)
        if self.is_open:
            return _trusted("", host)
        if self.rules and self.rules.anonymous:
            return _ruled(self.rules.anonymous, host)
        if certificates and self.rules and self.rules.certificates:
            raise Unauthenticated(
                "certificate must be of a known caller, got another's",
                reason="CERTIFICATE_UNKNOWN",
            )
        raise Unauthenticated(f"caller must give a {self._wanted()}, got none")

    def _by_token(self, token: str, host: str) -> Caller:
        by_token: Mapping[bytes, Rule] = self.rules.tokens if self.rules else {}
        rule = tokens.owner(token, by_token)
        is_listed = tokens.owner(token, dict.fromkeys(self.tokens, True))
        if rule:
            return _ruled(rule, host)
        if is_listed:
            return _trusted(TOKEN_CALLER, host)
        if not token:  # a token alone is another thing, whosever it is
            raise Unauthenticated(
                "authorization must be Bearer and a token, got something else",
                reason="TOKEN_UNKNOWN",
            )
        if self.subject is None or token.count(".") != 2:
            raise Unauthenticated("token must be a known one, got another", reason="TOKEN_UNKNOWN")
        subject = self.subject(token)
        if self.rules is None:
            return _trusted(subject, host)
        if subject not in self.rules.subjects:
            raise Unauthenticated(
                "token must be of a known subject, got another's", reason="SUBJECT_UNKNOWN"
            )
        return _ruled(self.rules.subjects[subject], host)

    def _wanted(self) -> str:
        """Returns what is missing, for whoever has to bring it."""
        proofs = ["token"] if self.takes_tokens else []
        if self.rules and self.rules.certificates:
            proofs.append("client certificate")
        return " or a ".join(proofs) or "proof of who it is"


def _ruled(rule: Rule, host: str) -> Caller:
    return Caller(rule.name, host, rule.groups, rule.quotas)


def _trusted(name: str, host: str) -> Caller:
    return Caller(name, host, FROM_ELSEWHERE if host else EVERYTHING)
