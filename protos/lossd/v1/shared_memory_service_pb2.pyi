from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class AttachSegmentRequest(_message.Message):
    """Asks the server to attach a file as a segment.

    Args:
        name: Name of the file in the directory: 1 to 64 of the characters A-Z, a-z, 0-9, "_" and
            "-".
        size: Bytes to share, at least 1 and at most the size of the file.
    """
    __slots__ = ("name", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class AttachSegmentResponse(_message.Message):
    """The attached segment.

    Args:
        segment: Token of the segment, which names it from now on. It cannot be guessed, and nobody
            else is told it.
    """
    __slots__ = ("segment",)
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    segment: bytes
    def __init__(self, segment: _Optional[bytes] = ...) -> None: ...

class DetachSegmentRequest(_message.Message):
    """Asks the server to release a segment.

    Args:
        segment: Token of the segment.
    """
    __slots__ = ("segment",)
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    segment: bytes
    def __init__(self, segment: _Optional[bytes] = ...) -> None: ...

class DetachSegmentResponse(_message.Message):
    """The segment is gone."""
    __slots__ = ()
    def __init__(self) -> None: ...
