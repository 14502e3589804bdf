"""Arbitrary text for lists and tables, much of it invalid."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from shards.errors import InputError

any_text_settings = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# What readers take apart: separators, numbers of every kind, extensions without a name.
_ODD = ("", " ", "#", "# ", "\0", "\r", "\n", "\x85", "\u2028", '"', "'", ",", "\ufeff", "\x1b[2J")
_NUMBERS = ("-1", "0", "1", "9" * 5000, "1e999", "nan", "inf", "\u00b2", "\u0663")
_NAMES = (".mp4", "..mp4", "a/..mp4", "..", "/", "/" * 300, "x" * 5000, "path", "label", "train")


def any_text(*names: str, separator: str = " ") -> st.SearchStrategy[bytes]:
    """Lines of words: these names, odd ones, and any others; not always UTF-8."""
    words = st.sampled_from((*names, *_ODD, *_NUMBERS, *_NAMES)) | st.text(max_size=8)
    lines = st.lists(words, max_size=6).map(separator.join)
    texts = st.lists(lines, max_size=5).map("\n".join)
    return texts.map(lambda text: text.encode("utf-8", "surrogatepass"))


def check_refusal(file: Path, call: Callable[..., object], *arguments: object) -> None:
    """A call with an unusable file raises an `InputError` of one line that names the file."""
    try:
        call(*arguments)
    except InputError as error:
        message = str(error)
        assert message.isprintable()
        assert file.name in message
