"""Groups of commands whose help says what to type; Typer's own help names Python's types."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.models import CommandFunctionType

_TYPES = {
    "<bool>": "",  # a flag: nothing follows it
    "<str>": "<text>",
    "<list[Path]>": "<path> ...",
    "<int range>": "<int>",  # the range follows it
    "<float range>": "<float>",
}
"""A type as Typer shows it -> as the help shows it."""


class _Readable:
    """Options and arguments with readable types; arguments are in capitals, as in the docs."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperArgument) and param.metavar is None and param.name:
                param.metavar = param.name.upper()
            shown = type(param).display_type_rich(param, ctx)
            param.display_type_rich = lambda ctx, shown=shown: _TYPES.get(shown, shown)
        return list(params)


class Command(_Readable, TyperCommand):
    """A command of a `Group`."""


class CommandGroup(_Readable, TyperGroup):
    """The group of commands that Typer makes from a `Group` when the program runs."""


class Group(typer.Typer):
    """Commands with readable help. Without a command, the group prints its help."""

    def __init__(self, *, cls: type[TyperGroup] = CommandGroup, **how: Any) -> None:
        super().__init__(cls=cls, no_args_is_help=True, **how)

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **how: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Makes a function a command of this group, with readable help."""
        return super().command(name, cls=cls or Command, **how)
