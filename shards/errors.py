"""The one exception that means "the input is at fault, not the program"."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one line: it names the thing (path, key, config entry) and says what to do about
    it. The command line prints it without a traceback and exits with code 2.
    """
