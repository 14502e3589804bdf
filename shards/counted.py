"""`counted`: a number and its noun, for messages."""


def counted(number: int, noun: str) -> str:
    """ "1 shard" or "2 shards", "1 class" or "2 classes", "1 entry" or "2 entries".

    Args:
        number: How many.
        noun: The noun for one, in English; more words may stand before it.
    """
    if number == 1:
        return f"1 {noun}"
    if noun.endswith(("s", "x", "ch")):
        return f"{number} {noun}es"
    if noun.endswith("y") and noun[-2] not in "aeou":
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}s"
