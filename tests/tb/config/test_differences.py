"""Settings as trees."""

from tb.config.differences import differences, flatten


def test_differences_are_those_of_the_leaves() -> None:
    one = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert flatten(one) == {"a.b": 1, "a.c": [1, 2], "d": None}
    assert differences(one, one) == []
    assert differences(one, {"a": {"b": 2, "c": [1, 2]}, "e": 3}) == [
        ("a.b", 1, 2),
        ("e", None, 3),
    ]
