"""Settings as plain trees: their flat names, and how two trees differ."""

from typing import Any

Tree = dict[str, Any]
"""What YAML or JSON holds: nested mappings with text as keys."""


def flatten(tree: Tree, prefix: str = "") -> Tree:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists are values."""
    flat: Tree = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(one: Tree, two: Tree) -> list[tuple[str, object, object]]:
    """Names whose values differ, sorted: (name, value in one, value in two); None: missing."""
    old, new = flatten(one), flatten(two)
    return [
        (name, old.get(name), new.get(name))
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]
