"""Every module can be imported, with any Python; what only an extra brings may be missing."""

import pkgutil
from importlib import import_module

import pytest

import loaders
import shards
import tb

_OF_EXTRAS = {"nvidia", "nvidia.dali", "triton"}


@pytest.mark.parametrize("package", [shards, loaders, tb], ids=lambda package: package.__name__)
def test_every_module_can_be_imported(package: object) -> None:
    path, name = package.__path__, package.__name__  # type: ignore[attr-defined]
    found = [module.name for module in pkgutil.walk_packages(path, f"{name}.")]
    assert len(found) > 20
    for module in found:
        if module.endswith(".__main__"):  # it would run
            continue
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            if error.name not in _OF_EXTRAS:
                raise
