"""Which split a word means, in the name of a folder or in a list of another project."""

from shards.format.splits import SplitName


def split_of_word(word: str) -> SplitName | None:
    """The split that the word means; None if it means none."""
    lower = word.lower()
    if lower in ("valid", "validate", "validation"):
        return SplitName.VAL
    return SplitName(lower) if lower in set(SplitName) - {SplitName.UNUSED} else None
