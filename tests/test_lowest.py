"""`lowest.txt` has the lowest version of everything that pyproject.toml asks for."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

TESTS = Path(__file__).resolve().parent
# torch takes one version of triton. Of the others pip would try hundreds of versions.
# The lowest typer takes any click, and warns with the newest; so does matplotlib with pyparsing.
HELD = {"aiobotocore", "boto3", "click", "pyparsing", "triton"}


def asked_for() -> dict[str, Requirement]:
    """Name -> requirement, of the package and of its extra "dev"."""
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    found: dict[str, Requirement] = {}
    texts = [*project["dependencies"], f"{project['name']}[dev]"]
    while texts:
        requirement = Requirement(texts.pop())
        if requirement.name == project["name"]:
            for extra in requirement.extras:
                texts += project["optional-dependencies"][extra]
        else:
            found[canonicalize_name(requirement.name)] = requirement
    return found


def lowest() -> dict[str, Version]:
    """Name -> version."""
    text = (TESTS / "lowest.txt").read_text()
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    pairs = [line.split("==") for line in lines if line]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_lowest_versions_are_the_bounds_of_pyproject() -> None:
    wanted, found = asked_for(), lowest()
    assert found.keys() == wanted.keys() | HELD
    for name in wanted.keys() - HELD:
        requirement, version = wanted[name], found[name]
        assert version in requirement.specifier, name
        (bound,) = (
            Version(one.version) for one in requirement.specifier if one.operator in (">=", "==")
        )
        assert version.release[: len(bound.release)] == bound.release, name
