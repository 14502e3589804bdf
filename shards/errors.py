"""The one exception that means: the input is wrong, not the program."""


class InputError(Exception):
    """Something that the user gave cannot be used.

    The message is one line. It names the thing (a path, a key, an entry of the configuration) and
    says what to do. The command line prints it without a traceback and exits with code 2.
    """
