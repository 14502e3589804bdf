"""Imports inside `tb` run one way: each room imports only what stands before it."""

import ast
from pathlib import Path

import tb

ROOMS = (
    *("kinds", "messages", "progress", "losses", "similarity", "config", "networks", "weights"),
    *("training", "evaluation", "method", "workflow", "reports", "tables", "demo", "api", "cli"),
)
ROOT = Path(tb.__file__).parent


def imported(path: Path) -> set[str]:
    """The rooms of `tb` that a file imports, inside functions and for types too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "tb":
            names += [f"tb.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "tb" and len(part) > 1 and part[1] in ROOMS}


def test_no_import_runs_back() -> None:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        room = path.relative_to(ROOT).with_suffix("").parts[0]
        if room in ROOMS:
            later = ROOMS[ROOMS.index(room) + 1 :]
            found += [f"{path.relative_to(ROOT)}: {x}" for x in imported(path) if x in later]
    assert found == []


def test_every_room_is_in_the_list_and_says_what_is_in_it() -> None:
    rooms = {path.stem for path in ROOT.glob("*.py")} | {x.parent.name for x in ROOT.glob("*/*.py")}
    assert rooms - {"__init__", "presets"} == set(ROOMS)
    for name in ROOMS:
        path = ROOT / f"{name}.py"
        path = path if path.is_file() else ROOT / name / "__init__.py"
        assert ast.get_docstring(ast.parse(path.read_text())), name
