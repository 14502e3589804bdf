"""What a path leads to, and what is said where the system does not say."""

from pathlib import Path

import pytest

from shards.errors import InputError
from shards.files.path_kinds import exists, is_file, is_folder

_NOTHING = ("none", "file/below", "circle", "null\0character")


def test_files_folders_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "link").symlink_to(tmp_path)
    for name, kinds in {
        "file": (True, False, True),
        "link": (False, True, True),
        **dict.fromkeys(_NOTHING, (False, False, False)),
    }.items():
        path = tmp_path / name
        assert (is_file(path), is_folder(path), exists(path)) == kinds, name


def test_a_name_that_is_too_long_is_an_error_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    for ask in (is_file, is_folder, exists):
        with pytest.raises(InputError) as caught:
            ask(path)
        assert str(caught.value) == f"{path}: File name too long; give a path that can be read"
