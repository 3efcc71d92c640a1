"""How a client proves who it is, and knows whom it talks to: TLS and tokens.

Nothing secret is ever shown. Files of certificates and of a token are read whenever they change, so
that what is rotated needs no new client.
"""

import codecs
import functools
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from lossd.client import moving
from lossd.client.errors import InvalidRequestError, LossdError, UnavailableError
from lossd.client.followed import Followed
from lossd.client.options import channel_options
from lossd.client.renewing import Renewing
from lossd.client.target import Target, is_looked_up
from lossd.client.unreached import reason

Metadata = tuple[tuple[str, str], ...]
Token: TypeAlias = str | Path | Callable[[], str]

_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class TLS:
    """How a connection is secured; each is the path of a file in PEM.

    Attributes:
        ca: Authorities that the server's certificate may be of; None for those that gRPC knows,
            which are the public ones.
        certificate: The client's own, and its chain, for servers that want one.
        key: Its key.
        server_name: The name in the server's certificate, where it is not that of the target.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise _refusal("tls", "have a certificate and its key, or neither", "one of them")

    @property
    def files(self) -> list[str | Path]:
        """The paths of all files."""
        return [path for path in (self.ca, self.certificate, self.key) if path is not None]

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns what gRPC takes, of the files as they are now.

        Raises:
            InvalidRequestError: if one cannot be read, or does not hold what it should: gRPC would
                trust public authorities where a file of authorities is empty.
        """
        ca, key, certificate = map(_content, (self.ca, self.key, self.certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if ca is not None:
                context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            raise _unusable("tls.ca", "certificates in PEM", self.ca, error) from error
        try:
            if self.certificate is not None:  # a password is none: OpenSSL would ask for one
                context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (ssl.SSLError, ValueError) as error:
            rule = "a certificate in PEM that tls.key belongs to"
            raise _unusable("tls.certificate", rule, self.certificate, error) from error
        return grpc.ssl_channel_credentials(ca, key, certificate)


@dataclass(slots=True)
class Security:
    """The TLS settings and the token of a client; may be pickled, with the token in it."""

    tls: TLS | None = None
    token: Token | None = field(default=None, repr=False)
    _credentials: Followed[Any] | None = field(default=None, repr=False, init=False)
    _file: Followed[str] | None = field(default=None, repr=False, init=False)

    def __post_init__(self) -> None:
        if self.tls is not None:
            self._credentials = Followed("tls", self.tls.files, self.tls.credentials)
        if isinstance(self.token, Path):
            read = functools.partial(_token_of, self.token)
            self._file = Followed("token", (self.token,), read)

    @classmethod
    def checked(cls, tls: object, token: object, channel: object) -> "Security":
        """Returns both, if they can be used.

        Raises:
            InvalidRequestError: if not.
        """
        if channel is not None and not hasattr(channel, "unary_unary"):
            raise _refusal("channel", "be a channel of gRPC", type(channel).__name__)
        if not isinstance(tls, bool | TLS | None):
            raise _refusal("tls", "be a TLS, True or False", type(tls).__name__)
        if tls and channel is not None:
            raise _refusal("tls", "be left out with a channel, which has its own", "both")
        if not (token is None or isinstance(token, str | Path) or callable(token)):
            raise _refusal("token", "be a text, a Path or a function", type(token).__name__)
        if isinstance(tls, bool):
            tls = TLS() if tls else None
        security = cls(tls, token)
        for followed in (security._credentials, security._file):
            if followed is not None:
                followed.first()
        if not callable(token):
            security.metadata()
        return security

    def opened(self, gate: Any, target: Target) -> Any:
        """Returns a channel to a target; ``gate`` is ``grpc`` or ``grpc.aio``.

        Raises:
            UnavailableError: if no target can be found, or no file of TLS be used, so far.
            InvalidRequestError: if a function returns what is no text.
        """
        open_one = functools.partial(self._opened, gate)
        if self.tls is not None and self.tls.files and self._credentials is not None:
            return moving.channel(gate, target, open_one, self._credentials.current)
        if callable(target) or is_looked_up(target):
            return moving.channel(gate, target, open_one)
        return open_one(target)

    def _opened(self, gate: Any, target: str) -> Any:
        """Returns gRPC's own channel to a target, or for threads one that outlives it."""
        if gate is grpc:
            return Renewing(functools.partial(self._plainly_opened, gate, target))
        return self._plainly_opened(gate, target)

    def _plainly_opened(self, gate: Any, target: str) -> Any:
        """Returns gRPC's own channel to a target."""
        options = channel_options()
        if self.tls is None or self._credentials is None:
            return gate.insecure_channel(target, options)
        if self.tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return gate.secure_channel(target, self._credentials.current(), options)

    def metadata(self, beside: Metadata = ()) -> Metadata:
        """Returns what goes with a call, the token among it.

        Raises:
            InvalidRequestError: if a text, or what a function returns, is no token.
            UnavailableError: if a function raises, or no file had a token so far.
        """
        token = self.token
        if token is None:
            return beside
        if self._file is not None:
            found = self._file.current()
        else:
            found = _checked(_told(token) if callable(token) else token)
        return (*beside, ("authorization", f"Bearer {found}"))

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.tls, self.token)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # what files hold is read where the copy is


PLAIN = Security()

_ANOTHER_NAME = "server must have a certificate for its name in the target, or for tls.server_name"
_ANOTHER_TIME = "server must have a certificate that is good now, and so must its authority"
# What gRPC says of a handshake that failed, and what that means: the first that is found.
_MEANINGS = {
    "certificate has expired": _ANOTHER_TIME,
    "certificate is not yet valid": _ANOTHER_TIME,
    "CERTIFICATE_VERIFY_FAILED": "server must have a certificate of an authority in tls.ca",
    "Hostname Verification Check failed": _ANOTHER_NAME,
    "is not in peer certificate": _ANOTHER_NAME,  # older releases
    "WRONG_VERSION_NUMBER": "server must speak TLS, as tls says",
    # It takes fewer kinds of keys than Python's library, which looks at the files before.
    "create security handshaker": "tls must hold what gRPC takes, with keys of RSA, P-256 or P-384",
}


def explained(error: LossdError) -> LossdError:
    """Returns the error, with the rule in its message that a failed handshake broke."""
    for words, meaning in _MEANINGS.items():
        if isinstance(error, UnavailableError) and words in error.message:
            error.message = f"{meaning}, got: {reason(error)}"
            error.args = (error.message,)
            break
    return error


def _told(token: Callable[[], str]) -> str:
    """Returns what a function tells; its error may hold secrets, and is the cause only."""
    try:
        return token()
    except Exception as error:
        raise UnavailableError(
            f"token must be told by its function, got {type(error).__name__}", field="token"
        ) from error


def _token_of(path: Path) -> str:
    try:
        lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable("token", path, error) from error
    if len(lines) != 1:  # a server's own may have several, or none yet
        found = f"{len(lines)} lines in" if lines else "nothing in"
        raise InvalidRequestError(
            f"token file must hold one token, got {found} {path}", field="token"
        )
    return _checked(lines[0].strip())


def _checked(token: Any) -> str:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _refusal("token", "be one or more visible ASCII characters", "something else")
    return token


def _content(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        # gRPC sees no PEM behind the mark that some editors begin a file with.
        return Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise _unreadable("tls", path, error) from error


def _unreadable(field: str, path: str | Path, error: Exception) -> InvalidRequestError:
    reason = getattr(error, "strerror", None) or "it is not text"
    return _refusal(field, "be in a file that can be read", f"{path}: {reason}")


def _unusable(field: str, rule: str, path: object, error: Exception) -> InvalidRequestError:
    return _refusal(field, f"hold {rule}", f"{path}: {getattr(error, 'reason', None) or error}")


def _refusal(field: str, rule: str, got: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field} must {rule}, got {got}", field=field)
