"""The packages that a user imports are fast to import, complete and typed."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    *("av", "filelock", "fsspec", "matplotlib", "numba", "numpy", "pyarrow", "pydantic", "torch"),
    *("torchvision", "triton", "typer"),
)

PROGRAM = """
from pathlib import Path

import torch
from loaders import Batch, EpochDataset, Loader, Skip, Subset, open_loader
from shards import IngestReport, Manifest, Recipe, Video, from_folder, ingest, read_manifest, verify
from tb import Evaluation, evaluate, export, load_classifier, shard, train

report: IngestReport = ingest(from_folder("videos"), "shards", recipe=Recipe(codec="h264"))
manifest: Manifest = read_manifest("shards")
video: Video = manifest.video(0)
problems: list[str] = verify("shards")
reveal_type(video.num_frames)
with open_loader(manifest, views="pretrain", subset=Subset(part="labelled"), seed=1) as loader:
    reveal_type(loader)
    for batch in loader:
        reveal_type(batch)
        reveal_type(batch.views["long"])
        total = batch.views["long"].sum() + batch.labels.sum()
        reveal_type(total)
    loader.load_state_dict(loader.state_dict())
    data = EpochDataset(loader)
checkpoint = train("student", shards="shards", out="work", settings=["labels.percent=5"])
reveal_type(checkpoint)
found = evaluate("student", shards="shards", out="work")
reveal_type(found.top1)
classifier = load_classifier("work/student")
reveal_type(classifier)
"""
REVEALED = (
    "int",
    "loaders.loader.Loader",
    "loaders.batch.Batch",
    "torch._tensor.Tensor",
    "torch._tensor.Tensor",
    "pathlib.Path",
    "float",
    "tb.",
)


@pytest.mark.parametrize("package", ["shards", "loaders", "tb"])
def test_importing_is_instant(package: str) -> None:
    code = f"import sys, {package}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("package", ["shards", "loaders", "tb"])
def test_every_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert len(module.__all__) > 5
    for name in module.__all__:
        assert getattr(module, name) is not None
        # A sub-module of that name would hide the function when it is imported.
        assert not (ROOT / package / f"{name}.py").exists()
        assert not (ROOT / package / name).exists()
    assert dir(module) == module.__all__ == sorted(module.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense
    assert (ROOT / package / "py.typed").is_file()


def test_a_name_means_the_same_at_every_front_door() -> None:
    offered: dict[str, object] = {}
    for package in map(importlib.import_module, ("shards", "loaders", "tb")):
        for name in package.__all__:
            found = getattr(package, name)
            assert offered.setdefault(name, found) is found, name


@pytest.mark.parametrize("package", ["shards", "loaders", "tb"])
def test_type_checkers_see_the_same_names(package: str) -> None:
    module = importlib.import_module(package)
    typed = {
        alias.asname: node.module
        for node in ast.walk(ast.parse((ROOT / package / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert sorted(typed) == module.__all__
    for name, place in typed.items():
        found = getattr(module, name)
        if isinstance(found, ModuleType):
            assert found.__name__ == f"{place}.{name}"
        else:
            assert (found.__module__, found.__name__) == (place, name)


@pytest.mark.slow
def test_a_users_program_sees_types_not_any(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "", str(program)],
        cwd=ROOT,
        env={"PATH": "", "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if "program.py:" in line]
    assert not [line for line in lines if ": error:" in line], done.stdout
    revealed = [line.partition('Revealed type is "')[2].rstrip('"') for line in lines]
    assert len(revealed) == len(REVEALED), done.stdout
    for found, expected in zip(revealed, REVEALED, strict=True):
        assert expected in found
        assert "Any" not in found
