from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Type of the elements of a tensor.

    Members:
        BOOL: One byte for each element, 0 or 1.
        UINT8: Unsigned integer of 8 bits.
        UINT16: Unsigned integer of 16 bits.
        UINT32: Unsigned integer of 32 bits.
        UINT64: Unsigned integer of 64 bits.
        INT8: Signed integer of 8 bits.
        INT16: Signed integer of 16 bits.
        INT32: Signed integer of 32 bits.
        INT64: Signed integer of 64 bits.
        FLOAT16: IEEE 754 binary16.
        BFLOAT16: The upper half of an IEEE 754 binary32.
        FLOAT32: IEEE 754 binary32.
        FLOAT64: IEEE 754 binary64.
    """
    __slots__ = ()
    D_TYPE_UNSPECIFIED: _ClassVar[DType]
    D_TYPE_BOOL: _ClassVar[DType]
    D_TYPE_UINT8: _ClassVar[DType]
    D_TYPE_UINT16: _ClassVar[DType]
    D_TYPE_UINT32: _ClassVar[DType]
    D_TYPE_UINT64: _ClassVar[DType]
    D_TYPE_INT8: _ClassVar[DType]
    D_TYPE_INT16: _ClassVar[DType]
    D_TYPE_INT32: _ClassVar[DType]
    D_TYPE_INT64: _ClassVar[DType]
    D_TYPE_FLOAT16: _ClassVar[DType]
    D_TYPE_BFLOAT16: _ClassVar[DType]
    D_TYPE_FLOAT32: _ClassVar[DType]
    D_TYPE_FLOAT64: _ClassVar[DType]
D_TYPE_UNSPECIFIED: DType
D_TYPE_BOOL: DType
D_TYPE_UINT8: DType
D_TYPE_UINT16: DType
D_TYPE_UINT32: DType
D_TYPE_UINT64: DType
D_TYPE_INT8: DType
D_TYPE_INT16: DType
D_TYPE_INT32: DType
D_TYPE_INT64: DType
D_TYPE_FLOAT16: DType
D_TYPE_BFLOAT16: DType
D_TYPE_FLOAT32: DType
D_TYPE_FLOAT64: DType

class Tensor(_message.Message):
    """A dense array of numbers, little endian, in C order, without padding.

    The number of bytes of the data must be the product of the shape times the size of one element.

    Args:
        dtype: Type of the elements. One of:
            "BOOL": One byte for each element, 0 or 1.
            "UINT8": Unsigned integer of 8 bits.
            "UINT16": Unsigned integer of 16 bits.
            "UINT32": Unsigned integer of 32 bits.
            "UINT64": Unsigned integer of 64 bits.
            "INT8": Signed integer of 8 bits.
            "INT16": Signed integer of 16 bits.
            "INT32": Signed integer of 32 bits.
            "INT64": Signed integer of 64 bits.
            "FLOAT16": IEEE 754 binary16.
            "BFLOAT16": The upper half of an IEEE 754 binary32.
            "FLOAT32": IEEE 754 binary32.
            "FLOAT64": IEEE 754 binary64.
        shape: Size along each axis, each in [0, 2^63); empty for a single number. At most 8 axes.
        shared_memory: A range of memory that both sides share, see SharedMemoryService.
        chunks: Chunks that follow the message, in StreamLoss only.
        device_memory: A place in the memory of a GPU that both sides use, see DeviceMemoryService.
        data: The elements themselves. It has the highest number, so that all else is a prefix of
            the encoded message.
    """
    __slots__ = ("dtype", "shape", "shared_memory", "chunks", "device_memory", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MEMORY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    shared_memory: SharedMemory
    chunks: Chunks
    device_memory: DeviceMemory
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., shared_memory: _Optional[_Union[SharedMemory, _Mapping]] = ..., chunks: _Optional[_Union[Chunks, _Mapping]] = ..., device_memory: _Optional[_Union[DeviceMemory, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class SharedMemory(_message.Message):
    """A position in a segment of shared memory.

    Args:
        segment: Token of the segment, as AttachSegment gave it.
        offset: Bytes from the start of the segment, in [0, 2^63). Data at a multiple of 64 is read
            fastest.
    """
    __slots__ = ("segment", "offset")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    segment: bytes
    offset: int
    def __init__(self, segment: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class DeviceMemory(_message.Message):
    """A place in memory of a device.

    Args:
        segment: Token of the memory, as AllocateDevice gave it.
        offset: Bytes from its start, in [0, 2^63). Data at a multiple of 256 is read quickest; what
            is not at a multiple of the size of its elements is copied to the host before it is
            read.
    """
    __slots__ = ("segment", "offset")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    segment: bytes
    offset: int
    def __init__(self, segment: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class Chunks(_message.Message):
    """The elements of a tensor that follow its message in chunks.

    Args:
        position: Index of the tensor among the message's tensors with chunks, in the order of their
            fields, from 0. Their chunks come in that order.
        size_bytes: Total size of its chunks in bytes, in [0, 2^63).
    """
    __slots__ = ("position", "size_bytes")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    position: int
    size_bytes: int
    def __init__(self, position: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class NamedTensors(_message.Message):
    """The tensors of one name: a single one, or several where the loss takes a list.

    Args:
        name: Name of the input, as the loss declares it, for example "predictions".
        tensors: The tensors, in order; exactly one unless the loss takes a list.
    """
    __slots__ = ("name", "tensors")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    name: str
    tensors: _containers.RepeatedCompositeFieldContainer[Tensor]
    def __init__(self, name: _Optional[str] = ..., tensors: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ...) -> None: ...
