"""Looks at each call before its message is read: who it is, and whether it may."""

import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping

import grpc

from lossd.errors import Forbidden, ServiceError, Unauthenticated
from lossd.serving.access.audit import Audit
from lossd.serving.access.groups import GROUPS
from lossd.serving.access.policy import Policy
from lossd.serving.access.tokens import bearer
from lossd.serving.caller import HERE, Caller

_NAMES = ("x509_subject_alternative_name", "x509_common_name")
_HOST = re.compile(r"(?:ipv4|ipv6):\[?(?P<host>[^\]]+?)\]?(?::[0-9]+)?")
_LONGEST = 200  # characters of a name in a line


def everybody(method: str, context: grpc.ServicerContext) -> Caller:
    """Lets everybody do everything; where only this host can call, and nothing is to be proved."""
    del method, context
    return HERE


class Gate:
    """Lets those in that the newest policy knows.

    With ``is_secure`` they have to come by TLS, and with ``by_port`` not by a Unix socket, such as
    that by which a server hears itself.
    """

    def __init__(
        self, policy: Callable[[], Policy], *, is_secure: bool, by_port: bool = False
    ) -> None:
        self._policy = policy
        self._is_secure = is_secure
        self._by_port = by_port
        self._audit = Audit()

    def admit(self, method: str, context: grpc.ServicerContext) -> Caller:
        """Returns who makes a call.

        Raises:
            Unauthenticated: if it does not prove who it is.
            Forbidden: if it may not call the method.
        """
        peer = context.peer()
        try:
            caller = self._caller(context, peer)
        except Unauthenticated as error:
            self.note(error, method=method, peer=peer)
            raise
        if not caller.may(group := GROUPS[method]):
            refusal = Forbidden(
                f"caller must be granted {group}, got a call of {method.rpartition('/')[2]} by "
                f"{caller.name or 'one without a name'}",
                details={"group": group},
            )
            self.note(refusal, method=method, peer=peer, caller=caller.name)
            raise refusal
        return caller

    def note(self, error: ServiceError, **facts: str) -> None:
        """Writes the line of a refusal."""
        shown = {name: fact[:_LONGEST] for name, fact in facts.items()}
        self._audit.refused(reason=error.reason, because=str(error)[:_LONGEST], **shown)

    def _caller(self, context: grpc.ServicerContext, peer: str) -> Caller:
        if self._by_port and peer.startswith("unix"):
            raise Unauthenticated("call must come by the server's port, got one that does not")
        certificates: list[str] = []
        if self._is_secure:
            proven: Mapping[str, Iterable[bytes]] = dict(context.auth_context())  # type: ignore[arg-type]
            if b"ssl" not in (proven.get("transport_security_type") or ()):
                raise Unauthenticated("call must come by TLS, got one that does not")
            certificates = [
                name.decode(errors="replace") for key in _NAMES for name in proven.get(key) or ()
            ]
        token = bearer(context.invocation_metadata() or ())
        return self._policy().identify(token, certificates, host_of(peer))


def host_of(peer: str) -> str:
    """Returns the host of gRPC's name of a peer; empty for this one."""
    if peer.startswith("unix"):
        return ""
    found = _HOST.fullmatch(urllib.parse.unquote(peer))
    host = found["host"] if found else peer
    return "" if host == "::1" or host.startswith(("127.", "::ffff:127.")) else host
