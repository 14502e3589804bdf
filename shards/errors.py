"""The one exception that means: the input is wrong, not the program."""

from enum import StrEnum
from typing import TypeVar

Kind = TypeVar("Kind", bound=StrEnum)


def printable(text: str) -> str:
    r"""The text as one line, for a terminal: a line break becomes \n, an escape code \x1b.

    Names come from files and lists, and a stranger may have chosen them.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class InputError(Exception):
    """Something that the user gave cannot be used.

    The message is one line. It names the thing (a path, a key, an entry of the configuration) and
    says what to do. The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def one_of(kinds: type[Kind], name: str, value: str) -> Kind:
    """The member of `kinds` that a plain string stands for.

    Args:
        kinds: The enum.
        name: What the user calls the argument.
        value: A member or its string.

    Raises:
        InputError: There is no such member.
    """
    if value not in list(kinds):
        raise InputError(f"{name} is {value!r}: choose one of {', '.join(filter(None, kinds))}")
    return kinds(value)
