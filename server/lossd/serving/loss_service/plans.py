"""Plans that are kept by the exact bytes of messages: those of the requests that came last.

Two messages whose tensors have their data at the same places, and that are equal byte for byte
everywhere else, are parsed to the same request but for that data.  So what was decided for the
first holds for the second, which need not be parsed.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

MOST = 256  # plans that are kept: the losses of some dozen training jobs
MOST_BYTES = 32 << 20  # that they may take
# What a plan takes beside its numbers and its header, and for each byte of that: of a list of
# numbers there are objects of Python's, and arrays.
_OWN_BYTES, _BYTES_A_BYTE = 16 << 10, 8
# Layouts of messages of one length that are tried; few callers have two.
_LAYOUTS = 8


class Sized(Protocol):
    """Anything that takes some bytes."""

    @property
    def nbytes(self) -> int:
        """The bytes of its numbers."""


Kept = TypeVar("Kept", bound=Sized)  # a plan, told apart by which object it is


@dataclass(frozen=True, slots=True, eq=False)
class _MessageLayout:
    """Messages of one length whose data lies at the same places, and plans by all else of them."""

    between: tuple[slice, ...]  # the data
    plans: dict[bytes, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, places: Iterable[tuple[int, int]], length: int) -> "_MessageLayout":
        edges = [0, *(edge for place in places for edge in place), length]
        return cls(tuple(map(slice, edges[::2], edges[1::2])))

    def header(self, message: bytes) -> bytes:
        """Returns the bytes of a message that are no data."""
        return b"".join([message[part] for part in self.between])


class Plans(Generic[Kept]):
    """The plans of the requests that came last, by their exact bytes; for any number of threads."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._layouts: dict[int, tuple[_MessageLayout, ...]] = {}  # by the length of a message
        self._kept: OrderedDict[Kept, tuple[int, _MessageLayout, bytes]] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        """Returns the number of plans."""
        return len(self._kept)

    def find(self, message: bytes) -> Kept | None:
        """Returns what is planned for a message; None if nothing is yet."""
        for layout in self._layouts.get(len(message), ()):
            planned: Kept | None = layout.plans.get(layout.header(message))
            if planned is not None:
                with self._lock:
                    if planned in self._kept:  # else it was dropped meanwhile
                        self._kept.move_to_end(planned)
                return planned
        return None

    def keep(self, message: bytes, places: Sequence[tuple[int, int]], planned: Kept) -> None:
        """Keeps what is planned for a message, and drops those that were not used for longest."""
        made = _MessageLayout.of(places, len(message))
        header = made.header(message)
        nbytes = _bytes_of(planned, header)
        if nbytes > self._most_bytes:
            return
        with self._lock:
            layout = self._layout(len(message), made)
            if header in layout.plans:  # another thread was faster
                return
            layout.plans[header] = planned
            self._kept[planned] = len(message), layout, header
            self.nbytes += nbytes
            while len(self._kept) > self._most or self.nbytes > self._most_bytes:
                self._drop(next(iter(self._kept)))

    def _layout(self, length: int, made: _MessageLayout) -> _MessageLayout:
        """Returns the layout of messages of a length that is like one, which may become it."""
        known = self._layouts.get(length, ())
        for layout in known:
            if layout.between == made.between:
                return layout
        if len(known) >= _LAYOUTS:
            for planned in [p for p, (_, layout, _) in self._kept.items() if layout is known[0]]:
                self._drop(planned)
            known = self._layouts.get(length, ())
        self._layouts[length] = (*known, made)
        return made

    def _drop(self, planned: Kept) -> None:
        length, layout, header = self._kept.pop(planned)
        self.nbytes -= _bytes_of(planned, header)
        del layout.plans[header]
        if not layout.plans:
            left = tuple(each for each in self._layouts[length] if each is not layout)
            if left:
                self._layouts[length] = left
            else:
                del self._layouts[length]


def _bytes_of(planned: Sized, header: bytes) -> int:
    return _OWN_BYTES + _BYTES_A_BYTE * len(header) + planned.nbytes
