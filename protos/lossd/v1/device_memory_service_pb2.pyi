from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class AllocateDeviceRequest(_message.Message):
    """Asks for memory of a device.

    Args:
        size: Bytes, at least 1; rounded up to whole pages of the device.
        device_uuid: The device that the memory is to be on: 16 bytes, as CUDA tells them.
        lease: Token of the client's segment of shared memory that the memory lives as long as.
    """
    __slots__ = ("size", "device_uuid", "lease")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_UUID_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    size: int
    device_uuid: bytes
    lease: bytes
    def __init__(self, size: _Optional[int] = ..., device_uuid: _Optional[bytes] = ..., lease: _Optional[bytes] = ...) -> None: ...

class AllocateDeviceResponse(_message.Message):
    """The memory.

    Args:
        segment: The name of the memory from now on. Nobody can guess it, and nobody else is told
            it.
        size: Bytes that there are.
        cuda_ipc: For cudaIpcOpenMemHandle: 64 bytes.
        offset: Where in what the handle opens the memory begins.
        done_event: For cudaIpcOpenEventHandle: 64 bytes. The event is recorded when the results of
            a call have been written to the memory, before the call is answered.
    """
    __slots__ = ("segment", "size", "cuda_ipc", "offset", "done_event")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CUDA_IPC_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DONE_EVENT_FIELD_NUMBER: _ClassVar[int]
    segment: bytes
    size: int
    cuda_ipc: bytes
    offset: int
    done_event: bytes
    def __init__(self, segment: _Optional[bytes] = ..., size: _Optional[int] = ..., cuda_ipc: _Optional[bytes] = ..., offset: _Optional[int] = ..., done_event: _Optional[bytes] = ...) -> None: ...

class ReleaseDeviceRequest(_message.Message):
    """Asks the server to free memory.

    Args:
        segment: Token of the memory.
    """
    __slots__ = ("segment",)
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    segment: bytes
    def __init__(self, segment: _Optional[bytes] = ...) -> None: ...

class ReleaseDeviceResponse(_message.Message):
    """The memory is freed."""
    __slots__ = ()
    def __init__(self) -> None: ...
