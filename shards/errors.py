"""The one exception that means: the input is wrong, not the program."""


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
