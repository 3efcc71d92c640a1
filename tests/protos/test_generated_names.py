"""Names of the contract that generators of other languages turn into the same name."""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from lossd import v1
from lossd.forms import is_repeated

FILES = {
    getattr(v1, name).DESCRIPTOR.file
    for name in dir(v1)
    if isinstance(getattr(getattr(v1, name), "DESCRIPTOR", None), Descriptor)
}


def taken_in_java(field: FieldDescriptor) -> Iterator[str]:
    """Names that fields beside this one may not have, since Java makes accessors of them."""
    if field.enum_type is not None:
        yield f"{field.name}_value"
    if is_repeated(field):
        yield from (f"{field.name}_count", f"{field.name}_list")


def test_java_has_two_meanings_for_no_name_but_one() -> None:
    messages = [message for file in FILES for message in file.message_types_by_name.values()]
    twice = [
        f"{message.name}.{name}"
        for message in messages
        for field in message.fields
        for name in taken_in_java(field)
        if name in message.fields_by_name
    ]

    assert len(messages) > 60
    # docs/wire.md tells what to do about it, and examples/clients/java/build.sh does it.
    assert twice == ["Bleu.smoothing_value"]
