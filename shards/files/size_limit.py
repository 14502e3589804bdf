"""A limit to the size of files that are read whole, because a file may come from a stranger."""

from shards.errors import InputError

MAX_FILE_BYTES = 2 << 30
# Objects from malicious JSON take twenty times its size in memory.
MAX_JSON_BYTES = 128 << 20


def check_size(path: str, num_bytes: int, max_bytes: int) -> None:
    """Raises InputError if a file of `num_bytes` is too large to be read whole.

    Args:
        path: The file, for the message.
        num_bytes: Its size.
        max_bytes: How large it may be.
    """
    if num_bytes > max_bytes:
        raise InputError(
            f"{path}: has {num_bytes} bytes, and may have {max_bytes}, so `tb shard` did not write"
            " it; run `tb shard` again with another --out"
        )
