"""Text files that the user names: lists, tables, presets."""

from pathlib import Path

from shards.errors import InputError

MAX_TEXT_BYTES = 128 << 20


def read_text(path: Path, advice: str) -> str:
    """The content of a text file in UTF-8, without the byte-order mark that spreadsheets write.

    Args:
        path: The file.
        advice: What such a file holds, for the error.

    Raises:
        InputError: The file cannot be read, is larger than MAX_TEXT_BYTES, or is not such a text.
    """
    try:
        # A pipe does not say how large its content is, so the reading itself has the limit.
        with path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise InputError(
                f"{path}: has more than {MAX_TEXT_BYTES} bytes, the limit of a text file; {advice}"
            )
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise InputError(f"{path}: {reason}; {advice}") from error
