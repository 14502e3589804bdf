"""How the names of files are written into JSON and Parquet."""

from collections.abc import Iterable


def readable_name(name: str) -> str:
    r"""The name of a file as valid Unicode: bytes that are not UTF-8 become \xNN."""
    # `encode` gives the bytes of a name from the disk, in any locale. Other text stays as it is.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def readable_names(names: Iterable[str]) -> dict[str, str]:
    """Name of a file -> the same as valid Unicode."""
    return {name: readable_name(name) for name in names}
