"""What the packages import is declared, so an installation from a wheel lacks nothing."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.test_directions import PACKAGES, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# A package that comes with a declared one, because both must fit each other.
_COMES_WITH = {"llvmlite": "numba"}
# Where what an extra brings is imported: inside functions, and in files that only they import.
_ONLY_WITH_AN_EXTRA = {"loaders/engines/dali/graph.py", "loaders/engines/dali/view_kernel.py"}


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", text)[0].lower() for text in requirements}


ALWAYS = _names(PROJECT["dependencies"])
SOMETIMES = set().union(*map(_names, PROJECT["optional-dependencies"].values()))


def _imports(path: Path) -> dict[str, bool]:
    """Top-level module -> whether the file needs it when it is imported itself."""
    found: dict[str, bool] = {}
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            root = name.partition(".")[0]
            found[root] = found.get(root, False) or id(node) not in inside
    return found


@pytest.mark.parametrize("package", ["shards", "loaders", "tb"])
def test_every_import_is_declared(package: str) -> None:
    distributions = packages_distributions()
    for path in sorted((ROOT / package).rglob("*.py")):
        for module, at_once in _imports(path).items():
            if module in sys.stdlib_module_names or module in PACKAGES:
                continue
            names = {name.lower() for name in distributions.get(module, [module])}
            names = {_COMES_WITH.get(name, name) for name in names}
            optional = str(path.relative_to(ROOT)) in _ONLY_WITH_AN_EXTRA or not at_once
            declared = ALWAYS | SOMETIMES if optional else ALWAYS
            assert names & declared, f"{path}: {module} ({', '.join(names)}) is not declared"
