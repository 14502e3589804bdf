"""All imports of the check and of GPU tests are in the extra `gpu-check` or in the dependencies.

A machine without a network installs these from a folder of wheels. If one is missing there, the
check cannot run.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
OURS = {"bench", "loaders", "shards", "tb", "tests"}
START = [*(ROOT / "bench" / "gpu_check").glob("*.py"), *(ROOT / "tests").rglob("conftest.py")]


def test_the_extra_has_all_that_is_imported() -> None:
    marked = [
        path for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()
    ]
    assert len(marked) > 5
    allowed, distributions = _declared(), packages_distributions()
    for path in sorted(_reached([*START, *marked])):
        for name in {module.split(".")[0] for module in _imported(path)}:
            if name in OURS or name in sys.stdlib_module_names:
                continue
            names = {_plain(one) for one in distributions.get(name, [name])}
            assert names & allowed, f"{path.relative_to(ROOT)} imports {name}"


def _declared() -> set[str]:
    """The names of what `pip install 'timebalance[gpu-check]'` asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted, names = [*project["dependencies"], *extras["gpu-check"]], set()
    for one in wanted:
        if found := re.fullmatch(r"timebalance\[(.+)\]", one):
            wanted += [need for extra in found[1].split(",") for need in extras[extra]]
        else:
            names.add(_plain(re.split(r"[^\w.-]", one)[0]))
    return names


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _reached(start: list[Path]) -> set[Path]:
    """The files of `bench` and `tests` that these import, and they themselves."""
    reached, waiting = set[Path](), list(start)
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        for module in _imported(path):
            base = ROOT / module.replace(".", "/")
            if module.split(".")[0] in ("bench", "tests"):
                places = (base.with_suffix(".py"), base / "__init__.py")
                waiting += [place for place in places if place.is_file()]
    return reached


def _imported(path: Path) -> Iterator[str]:
    """Modules by their dotted names, wherever in a file they are imported."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
