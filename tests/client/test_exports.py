from pathlib import Path

from lossd import client
from lossd.client import errors


def test_exports_are_sorted_and_exist() -> None:
    assert client.__all__ == sorted(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    names = {kind.__name__ for kind in kinds if issubclass(kind, errors.LossdError)}
    assert names <= set(client.__all__)
    assert all(name in errors.__doc__ for name in names)


def test_the_package_is_typed() -> None:
    assert Path(client.__file__).with_name("py.typed").exists()
