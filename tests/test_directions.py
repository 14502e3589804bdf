"""Imports run one way: between the packages, between their rooms, and without a cycle anywhere."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the ground up: a room may import itself and the rooms before it.
ROOMS = {
    "shards": [
        *("errors", "counted", "cpus", "progress", "files", "format", "decode", "labels"),
        *("sources", "encode", "ingestion", "copies", "reader", "verification", "summary"),
    ],
    "loaders": [
        *(
            "yuv",
            "decode",
            "plan",
            "devices",
            "engines",
            "subset",
            "faults",
            "transfer",
            "batch",
            "prefetch",
            "loader_process",
            "producer",
            "placement",
            "profile",
            "render",
        ),
        *("loader", "opening", "epoch_dataset"),
    ],
    "tb": [
        *(
            "version",
            "log_output",
            "named_paths",
            "stage_kinds",
            "progress",
            "registry",
            "losses",
            "similarity",
            "config",
            "networks",
        ),
        *("weights", "prediction", "training", "evaluation", "method", "workflow", "reports"),
        *("tables", "demo", "advice", "diagnosis", "api", "cli"),
    ],
    "shards.decode": ["planes", "packet_decoder", "packet_loop", "libavcodec", "window_planes"],
    "loaders.engines": [
        *("engine", "buffers", "memory", "threads", "fused", "reference", "cpu", "dali"),
        *("speeds", "choice"),
    ],
    "loaders.engines.fused": [
        "simd",
        "resampling",
        "values",
        "kernel",
        "render_video",
    ],
    "loaders.engines.dali": [
        *("window_file", "nvdec", "caps_cache", "layout", "memory", "view_kernel", "graph"),
        *("samples", "reading", "lane", "meter", "engine", "trials"),
    ],
}
PACKAGES = ("shards", "loaders", "tb", "bench")
DATA_ONLY = {"presets", "templates"}


def _modules(package: str) -> dict[str, Path]:
    """Dotted name -> file, for the modules of a package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = {name: path for package in PACKAGES for name, path in _modules(package).items()}


def _imports(name: str, path: Path) -> Iterator[tuple[int, str]]:
    """(line, our module) for every import in a file, also in functions and for types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in wanted:
            module = full if full in MODULES else full.rpartition(".")[0]
            if module in MODULES and module != name:
                yield node.lineno, module


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_stands_before_them(package: str) -> None:
    allowed = PACKAGES[: PACKAGES.index(package) + 1]
    for name, path in _modules(package).items():
        for line, module in _imports(name, path):
            assert module.partition(".")[0] in allowed, f"{path}:{line}: imports {module}"


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_what_stands_before_them(package: str) -> None:
    rooms, depth = ROOMS[package], package.count(".") + 1
    inside = {name: path for name, path in MODULES.items() if name.startswith(f"{package}.")}
    there = {name.split(".")[depth] for name in inside}
    assert there - DATA_ONLY == set(rooms)
    for name, path in inside.items():  # the front door of a package names what all rooms offer
        room = name.split(".")[depth]
        if room in DATA_ONLY:
            continue
        allowed = rooms[: rooms.index(room) + 1]
        for line, module in _imports(name, path):
            if module.startswith(f"{package}."):
                assert module.split(".")[depth] in allowed, f"{path}:{line}: imports {module}"


def test_every_room_with_rooms_of_its_own_has_an_order() -> None:
    for name, path in MODULES.items():
        is_room = path.name == "__init__.py" and not name.startswith("bench")
        if is_room and any(inner.parent != path.parent for inner in path.parent.rglob("*.py")):
            assert name in ROOMS, f"{name}: give the order of its rooms"


def test_no_import_goes_in_a_circle() -> None:
    imports = {
        name: {module for _, module in _imports(name, path)} for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for module in sorted(imports.get(name, ())):
                visit(module, (*way, name))
            done.add(name)

    for name in imports:
        visit(name, ())


@pytest.mark.parametrize("package", PACKAGES[:3])
def test_every_room_says_what_is_in_it(package: str) -> None:
    for path in sorted((ROOT / package).rglob("__init__.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, f"{path}: has no docstring"
        if path.parent.name not in DATA_ONLY:
            assert "Here: " in docstring, f"{path}: does not say what is here"
            assert "Not here: " in docstring, f"{path}: does not say what is not here"


# A bench of bare decoding opens what `tb shard` has just encoded.
OPENERS = {"shards/encode/video_stream.py", "bench/contenders.py"}


def _opens_videos(path: Path) -> bool:
    """Whether a file uses `av.open`, but not to write."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    writing = [
        node.func
        for node in nodes
        if isinstance(node, ast.Call) and "'w'" in map(ast.unparse, node.args[1:2])
    ]
    opening = [
        node for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node) == "av.open"
    ]
    return any(node not in writing for node in opening)


def test_one_file_opens_videos() -> None:
    """So its limits hold for every video that a stranger may have made."""
    found = {str(path.relative_to(ROOT)) for path in MODULES.values() if _opens_videos(path)}
    assert found == OPENERS


def test_two_classes_or_types_do_not_share_a_name() -> None:
    owners: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                owners.setdefault(node.name, []).append(name)
        for assigned in (node for node in tree.body if isinstance(node, ast.Assign)):
            for target in map(ast.unparse, assigned.targets):
                if re.fullmatch(r"[A-Z][a-z]\w*", target):  # such as `Views = dict[str, Tensor]`
                    owners.setdefault(target, []).append(name)
    assert {name: where for name, where in owners.items() if len(where) > 1} == {}


# What a whole package does, and what one of its parts does of it.
SAME_SUBJECT = {"engine.py", "memory.py", "progress.py"}


def test_two_files_do_not_share_a_name() -> None:
    paths = [path for package in PACKAGES[:3] for path in (ROOT / package).rglob("*.py")]
    counts = Counter(path.name for path in paths if path.parent.name != "cli")
    shared = {name for name, count in counts.items() if count > 1}
    assert shared == {"__init__.py", *SAME_SUBJECT}


def test_tests_lie_where_their_subjects_lie() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.parent.relative_to(ROOT / "tests")
        assert (ROOT / folder).is_dir(), f"{path}: there is no {folder}"


# Vector code.
LONG_FILES = {"loaders/engines/fused/simd.py"}
WHY_LONG = "The function is long because "


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_functions_and_files_are_short(package: str) -> None:
    """Or the docstring of a function says why it is long, in the words of `WHY_LONG`."""
    for path in sorted((ROOT / package).rglob("*.py")):
        text = path.read_text()
        if str(path.relative_to(ROOT)) not in LONG_FILES:
            assert text.count("\n") <= 400, f"{path}: more than 400 lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                docstring = node.body[0] if ast.get_docstring(node) else None
                lines = (node.end_lineno or 0) - node.lineno + 1
                if docstring is not None:
                    lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
                says_why = WHY_LONG in (ast.get_docstring(node) or "")
                assert lines <= 45 or says_why, f"{path}:{node.lineno}: {node.name}: {lines} lines"
