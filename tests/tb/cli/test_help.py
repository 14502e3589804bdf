"""What `--help` shows of every command: readable types, and no word in capitals that is unknown."""

import re

import pytest

from tests.tb.commands import every_command, tb, usage_error

COMMANDS = [name for name, _ in every_command()]
# Words in capitals that stand for nothing that the user types.
_ABBREVIATIONS = {"CPU", "CRF", "CSV", "GOP", "GPU", "HMDB", "JSON", "OPTIONS", "PNG", "PSNR"}
_ABBREVIATIONS |= {"START", "END", "UCF", "URL", "YAML"}


def _help(name: str) -> str:
    return tb(*name.split(), "--help", width=200)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_names_no_type_of_python(name: str) -> None:
    shown = {one for one in re.findall(r"<[^>]*>", _help(name)) if "|" not in one}
    assert shown <= {"<text>", "<int>", "<float>", "<path>"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_word_in_capitals_is_one_of_the_command(name: str) -> None:
    shown = _help(name)
    own = re.findall(r"^│ [* ]*(?:--[a-z0-9-]+ +)?\[?([A-Z=]+)\]? ", shown, re.M)
    words = set(re.findall(r"(?<![-\w])[A-Z]{3,}(?![-\w])", shown))
    assert words - _ABBREVIATIONS <= {word for one in own for word in one.split("=")}


@pytest.mark.parametrize("option", ["--top", "--clips"])
def test_a_bound_is_shown_and_kept(option: str) -> None:
    assert re.search(rf"{option} +<int> \[x>=1\]", _help("predict"))
    assert option in usage_error("predict", "a", "b", option, 0)


def test_arguments_are_in_capitals() -> None:
    for name in COMMANDS:
        (usage,) = re.findall(r"^ Usage: .*\[OPTIONS\](.*)", _help(name), re.M)
        assert usage == usage.upper(), name
