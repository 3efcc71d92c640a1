"""The methods of what stands for a channel, where that may be another one at each call."""

from collections.abc import Callable
from typing import Any


class Standing:
    """Stands for a channel of gRPC's: makes its methods, which ask on which one to be called."""

    def begun(self, begin: Callable[[Any], Any], seconds: float, *, is_awaited: bool) -> Any:
        """Begins a call on the channel as it is, and returns what that does.

        Args:
            begin: Begins it on a channel.
            seconds: How long the call may take.
            is_awaited: Whether it comes back with the answer, from a channel for threads.
        """
        raise NotImplementedError

    def unary_unary(self, path: str, *arguments: Any, **named: Any) -> "_ChannelMethod":
        """Returns a method, as gRPC's channels do; so do the others."""
        return _ChannelMethod(self, "unary_unary", path, *arguments, **named)

    def stream_unary(self, path: str, *arguments: Any, **named: Any) -> "_ChannelMethod":
        """Returns a method that takes a stream."""
        return _ChannelMethod(self, "stream_unary", path, *arguments, **named)

    def stream_stream(self, path: str, *arguments: Any, **named: Any) -> "_ChannelMethod":
        """Returns a method that takes a stream and answers with one."""
        return _ChannelMethod(self, "stream_stream", path, *arguments, **named)


class _ChannelMethod:
    """A method, called on the channel as it is at that moment."""

    def __init__(
        self, standing: Standing, kind: str, path: str, *arguments: Any, **named: Any
    ) -> None:
        self._standing = standing
        self._made: Callable[[Any], Any] = lambda given: getattr(given, kind)(
            path, *arguments, **named
        )
        self._is_awaited = kind != "stream_stream"
        self._last: tuple[Any, Any] = (None, None)  # gRPC takes 40 us to make one

    def __call__(self, *arguments: Any, timeout: float, **named: Any) -> Any:
        """Calls it; what it returns is an answer, or a call under way."""
        return self._standing.begun(
            lambda given: self._on(given)(*arguments, timeout=timeout, **named),
            timeout,
            is_awaited=self._is_awaited,
        )

    def future(self, *arguments: Any, timeout: float, **named: Any) -> Any:
        """Begins a call and returns it."""
        return self._standing.begun(
            lambda given: self._on(given).future(*arguments, timeout=timeout, **named),
            timeout,
            is_awaited=False,
        )

    def _on(self, given: Any) -> Any:
        of, invoke = self._last
        if of is not given:
            invoke = self._made(given)
            self._last = given, invoke
        return invoke
