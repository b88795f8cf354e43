"""From the names of classes in the settings to the classes themselves."""

import importlib
import inspect
from collections.abc import Callable
from typing import TypeVar

from server.sources import ConfigError
from server.user_code import reason_of

T = TypeVar("T")


def load_class(setting: str, name: str | None, contract: type[T], default: type[T]) -> type[T]:
    """The class that `setting` names, a subclass of `contract` without anything left abstract.

    None stands for `default`. Raises ConfigError in one line: the name leads nowhere, its module
    does not import, or what it leads to is not such a class.
    """
    if name is None:
        return default
    module_name, _, class_name = name.rpartition(":" if ":" in name else ".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = reason_of(error)
        raise ConfigError(f"{setting}: cannot import {name}: {why}") from error
    if not (isinstance(found, type) and issubclass(found, contract)):
        raise ConfigError(f"{setting}: {name} is not a subclass of {_name_of(contract)}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise ConfigError(
            f"{setting}: {name} leaves open what {_name_of(contract)} asks: {missing}"
        )
    return found


def made(setting: str, make: Callable[[], T]) -> T:
    """What a class gives when it is called at the start. Raises ConfigError in one line."""
    try:
        return make()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = reason_of(error)
        raise ConfigError(f"{setting}: the class cannot be used: {why}") from error


def _name_of(contract: type) -> str:
    return f"{contract.__module__}.{contract.__name__}"
