import inspect
from pathlib import Path

from lossd import client
from lossd.client import errors


def test_exports_are_sorted_and_exist() -> None:
    assert client.__all__ == sorted(client.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(client, name) for name in client.__all__)


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    names = {kind.__name__ for kind in kinds if issubclass(kind, errors.LossdError)}
    assert names <= set(client.__all__)
    assert all(name in errors.__doc__ for name in names)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    waiting, awaiting = methods(client.LossClient), methods(client.AsyncLossClient)
    assert waiting == awaiting
    assert {"compute", "list_losses", "server_info", "close"} <= waiting.keys()


def methods(kind: type) -> dict[str, list[tuple[str, object, object]]]:
    """The arguments of each public method: names, kinds and defaults."""
    return {
        name: [(p.name, p.kind, p.default) for p in inspect.signature(value).parameters.values()]
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and (name == "__init__" or not name.startswith("_"))
    }


def test_the_package_is_typed() -> None:
    assert Path(client.__file__).with_name("py.typed").exists()
