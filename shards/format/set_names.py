"""Which texts can be the name of a data set or of a class, because a set may come from a stranger.

The names are printed, and are written into lists of labels. The other texts of dataset.json have
the same limits.
"""

import re
from collections.abc import Iterable

from shards.errors import InputError

# Unicode's categories Cc, Zl and Zp: all that ends a line or begins an escape code.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# The name of a folder has up to 255 bytes, each of which may become \xNN.
_MAX_TEXT_CHARS = 1024


def check_names(dataset: str, classes: Iterable[str]) -> None:
    """Refuses names that could not be read back from dataset.json.

    Args:
        dataset: The name of the data set.
        classes: The names of its classes.

    Raises:
        InputError: A name cannot be used.
    """
    for what, name in (("data set", dataset), *(("class", name) for name in classes)):
        if problem := text_problem(name):
            raise InputError(
                f"the name of the {what} {name[:100]!r} {problem}; rename the folder, or change the"
                " table"
            )


def text_problem(text: str) -> str:
    """Why a text cannot be the name of a data set or of a class; "" if it can be one."""
    if len(text) > _MAX_TEXT_CHARS:
        return f"has more than {_MAX_TEXT_CHARS} characters"
    if has_controls(text):  # it could forge lines of a list, or steer a terminal
        return "has a line break or another control character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return ""


def has_controls(text: str) -> bool:
    """Whether a text has a line break, an escape code or another control character."""
    return _CONTROLS.search(text) is not None
