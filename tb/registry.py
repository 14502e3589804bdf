"""What users add by decorators: backbones, augmentations and methods, each with its qualified name.

Settings and checkpoints hold that name and no code. The name is looked up in what the running
program has registered. So a file never decides which code runs, because nothing is unpickled or
imported for it.
"""

import re
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar

from shards.errors import InputError

T = TypeVar("T", bound=Callable[..., Any])
_IMPORTED: list[str] = []


class Registry(Generic[T]):
    """The registered functions or classes of one kind."""

    def __init__(self, kind: str, decorator: str) -> None:
        """An empty registry.

        Args:
            kind: What it holds, for messages: "backbone".
            decorator: The decorator that adds to it, for messages: "tb.register_backbone".
        """
        self._kind, self._decorator = kind, decorator
        self._found: dict[str, T] = {}

    def add(self, made: T) -> None:
        """Registers a function or class; one with the same name is replaced.

        Raises:
            InputError: It is not at the top level of a module.
        """
        name = _qualified_name(made)
        if "<" in name:
            raise InputError(
                f"{self._kind} {name}: move it to the top level of a module, so that other programs"
                " can import it"
            )
        self._found[name] = made

    def find(self, name: str) -> T:
        """What is registered under a qualified name; InputError where nothing is."""
        if name not in self._found:
            module = name.rpartition(".")[0]
            raise InputError(
                f"{self._kind} {name!r} is not registered: import its module in Python, or give"
                f" `tb --import {module}`; @{self._decorator} must stand above it there"
            )
        return self._found[name]

    def name_of(self, made: Callable[..., Any]) -> str:
        """The name of something registered; InputError where it is not."""
        name = _qualified_name(made)
        if self._found.get(name) is not made:
            raise InputError(
                f"{self._kind} {name} is not registered: write @{self._decorator} above it"
            )
        return name


def is_qualified(name: str) -> bool:
    """Whether it names something registered ("module.name"), and not something built in."""
    return re.fullmatch(r"[\w-]+(\.[\w-]+)+", name) is not None


def import_modules(names: Iterable[str]) -> None:
    """Imports modules that register something, as `python -m` finds them.

    Args:
        names: Modules in the current folder, or installed ones.

    Raises:
        InputError: There is no such module.
    """
    for name in names:
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name):  # a path, or an empty string
                raise ModuleNotFoundError(name=name)
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists, but one that it imports does not
            raise InputError(
                f"--import {name}: no such module; give its name without .py, and run this in its"
                " folder"
            ) from None
        if name not in _IMPORTED:
            _IMPORTED.append(name)


def imported_modules() -> tuple[str, ...]:
    """What `import_modules` imported, for child processes."""
    return tuple(_IMPORTED)


def _qualified_name(made: Callable[..., Any]) -> str:
    """ "module.name", the same whether the module is imported or runs as a script."""
    module = made.__module__
    if module in ("__main__", "__mp_main__"):
        script = vars(sys.modules[module])
        if script.get("__spec__") is not None:  # python -m package.module
            module = script["__spec__"].name
        elif "__file__" in script:
            module = Path(script["__file__"]).stem
    return f"{module}.{made.__qualname__}"
