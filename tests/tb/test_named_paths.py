"""Every path that a command takes: one line says what is wrong with it, and nothing is written.

The commands run in this process, because several hundred processes would take minutes.
`test_commands` shows that `main` prints an `InputError` without a traceback.
"""

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.cli import app
from tb.config.load_config import dump_yaml, load_config
from tb.named_paths import disk_errors_named
from tests.shards.helpers import touch
from tests.tb.commands import every_command
from tests.tb.conftest import QUICK
from tests.tb.training.test_full_disk import has_mounts, run

_TRAIN = "--shards {shards} --out {out_folder} --preset {preset}"
_READ = "--shards {shards} --out {work} --preset {preset}"
# Each command with all of its paths. What a path is for is the word in braces.
COMMANDS = {
    "shard folder": "--root {root} --out {out_folder}",
    "shard csv": "--csv {table} --out {out_folder}",
    "shard ucf101": "--root {ucf101} --annotations {lists} --out {out_folder}",
    "shard hmdb51": "--root {hmdb51} --annotations {lists} --out {out_folder}",
    "shard kinetics400": "--root {kinetics} --annotations {kinetics_list} --out {out_folder}",
    "data advise folder": "--root {root} --out {out_folder}",
    "data advise csv": "--csv {table} --out {out_folder}",
    "data advise ucf101": "--root {ucf101} --annotations {lists} --out {out_folder}",
    "data advise hmdb51": "--root {hmdb51} --annotations {lists} --out {out_folder}",
    "data advise kinetics400": "--root {kinetics} --annotations {kinetics_list} --out {out_folder}",
    "data info": "{shards}",
    "data verify": "{shards}",
    "data ls": "{shards}",
    "data show": "{shards} {key} --png {out_file}",
    "split": "{shards} --from-list {label_list} --out {out_file}",
    "train invariant": _TRAIN,
    "train distinctive": _TRAIN,
    "train tclr": _TRAIN,
    "train finetune": f"--teacher invariant --init {{checkpoint}} {_TRAIN}",
    "train student": _READ,  # the teachers
    "train baseline": f"fixmatch {_TRAIN}",
    "train supervised": _TRAIN,
    "train all": _TRAIN,
    "eval": f"student --peek-test {_READ}",
    "probe knn": f"student --peek-test {_READ}",
    "probe linear": f"student --peek-test {_READ}",
    "retrieve": f"student --peek-test {_READ}",
    "predict": "{run} {video} --csv {out_file} --png {out_picture}",
    "export": "{run} --out {out_file}",
    "inspect teachers": "{work} --shards {shards} --preset {preset} --page {out_file}"
    " --with-hidden-labels",
    "report": _READ,
    "reproduce": "main --rows supervised --percents 50 --shards {shards} --out {out_folder}",
    "views": "{work} --shards {shards} --out {out_file} --preset {preset}",
    "runs ls": "{runs}",
    "runs show": "{run}",
    "runs compare": "{run} {run_2}",
    "runs plot": "{run} --out {out_file}",
    "config show": "{preset}",
    "config diff": "{preset} {preset_2}",
    "config presets": "",
    "demo": "--out {out_folder}",
    "doctor": "{root}",
}
OUTPUTS = {"out_file", "out_picture", "out_folder"}
FILES = {"table", "kinetics_list", "label_list", "checkpoint", "preset", "preset_2"} | (
    OUTPUTS - {"out_folder"}
)
# Linux lets nobody make a file there, root included.
CLOSED = Path("/sys/kernel")
# This file exists, and nobody can read its first bytes.
UNREADABLE = Path("/proc/self/mem")
# Makes folders read-only, as a disk may be, and starts a program.
_WITH_READ_ONLY = """
while test "$1" != --; do
    mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 1
    shift
done
shift
exec "$@"
"""
# Runs the commands of a JSON file, and writes what each was refused with, or nothing.
_RUN_EACH = """
import json, sys
from pathlib import Path
from shards.errors import InputError
from tb.cli import app
answers = []
for words in json.loads(Path(sys.argv[1]).read_text()):
    try:
        app(words, standalone_mode=False)
        answers.append("")
    except InputError as error:
        answers.append(str(error))
    except OSError as error:
        answers.append(f"not named: {error!r}")
Path(sys.argv[2]).write_text(json.dumps(answers))
"""


def _is_path(name: str, annotation: object) -> bool:
    # Shards and presets are texts, because they may be URLs or names.
    return "Path" in str(annotation) or name in ("shards", "root", "preset", "out", "one", "two")


def _roles(template: str) -> list[str]:
    """The paths of a command, by what they are for."""
    fields = [name for _, name, _, _ in Formatter().parse(template) if name]
    return [name for name in fields if name != "key"]


def test_the_table_has_every_path_of_every_command() -> None:
    num_paths = {
        name: sum(_is_path(one.name, one.annotation) for one in parameters)
        for name, parameters in every_command()
        if name != "train method"  # needs a user's class; its options are those of a baseline
    }
    assert num_paths == {name: len(_roles(template)) for name, template in COMMANDS.items()}


@pytest.fixture(scope="session")
def usable(
    finished: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    """For each role a path that the commands accept."""
    folder = tmp_path_factory.mktemp("usable")
    (folder / "preset.yaml").write_text(dump_yaml(load_config("demo", QUICK)))
    train = manifest.keys[int(manifest.indices("train")[0])]
    (folder / "labelled.txt").write_text(f"{train}\n")
    sources = [manifest.root.parent / "videos" / manifest.video(row).source for row in (0, 1)]
    (folder / "table.csv").write_text("path,label\n" + "".join(f"{path},a\n" for path in sources))
    (folder / "list.csv").write_text("label,youtube_id,time_start,split\na,abcdefghijk,1,train\n")
    clip = "movie_wave_f_cm_np1_fr_med_0.avi"
    touch(folder / "kinetics", "abcdefghijk_000001_000011.mp4")
    touch(folder / "ucf101", "Archery/v_Archery_g01_c01.avi")
    touch(folder / "hmdb51", f"wave/{clip}")
    (folder / "lists").mkdir()
    for number in (1, 2, 3):
        (folder / "lists" / f"wave_test_split{number}.txt").write_text(f"{clip} 1\n")
        for split in ("train", "test"):
            is_in = (split == "test") == (number == 1)
            text = "Archery/v_Archery_g01_c01.avi\n" if is_in else ""
            (folder / "lists" / f"{split}list0{number}.txt").write_text(text)
    return {
        "shards": manifest.root,
        "key": manifest.keys[0],
        "root": manifest.root.parent / "videos",
        "video": sources[0],
        "work": finished,
        "runs": finished,
        "run": finished / "student",
        "run_2": finished / "supervised",
        "checkpoint": finished / "invariant" / "checkpoint.pt",
        "preset": folder / "preset.yaml",
        "preset_2": "demo",
        "table": folder / "table.csv",
        "label_list": folder / "labelled.txt",
        "kinetics": folder / "kinetics",
        "kinetics_list": folder / "list.csv",
        "ucf101": folder / "ucf101",
        "hmdb51": folder / "hmdb51",
        "lists": folder / "lists",
    }


def _unusable(folder: Path, role: str, suffix: str) -> Iterator[Path]:
    """Makes and yields paths that nothing can be read from, or written to."""
    (folder / "file").touch()
    yield folder / "file" / f"x{suffix}"
    yield folder / f"{'x' * 300}{suffix}"  # no file system has such a name
    if role in FILES:
        (folder / f"folder{suffix}").mkdir()
        yield folder / f"folder{suffix}"
        if role not in OUTPUTS and UNREADABLE.is_file():
            (folder / f"unreadable{suffix}").symlink_to(UNREADABLE)
            yield folder / f"unreadable{suffix}"
    else:
        yield folder / "file"
    if role != "out_folder":  # which is made if it is missing
        yield folder / "none" / f"x{suffix}"
    if role in OUTPUTS and _is_closed(CLOSED):
        yield CLOSED / f"x{suffix}"


def _is_closed(folder: Path) -> bool:
    """Whether nobody may write there; the name of the file is unlikely to be anybody's."""
    try:
        (folder / "timebalance-test").touch()
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    (folder / "timebalance-test").unlink()
    return False


@pytest.mark.parametrize("name", [name for name in COMMANDS if _roles(COMMANDS[name])])
def test_a_path_that_cannot_be_used_is_named(
    name: str, usable: dict[str, object], tmp_path: Path
) -> None:
    suffix = ".safetensors" if name == "export" else ".png"
    for role in _roles(COMMANDS[name]):
        folder = tmp_path / role
        folder.mkdir()
        for path in _unusable(folder, role, ".yaml" if "preset" in role else suffix):
            outputs = {"out_folder": folder / "new", "out_file": folder / f"new{suffix}"}
            outputs["out_picture"] = folder / "picture.png"
            given = {**outputs, **usable, role: path}
            words = [word.format(**given) for word in COMMANDS[name].split()]
            before = sorted(folder.rglob("*"))
            with pytest.raises(InputError) as caught:
                app([*name.split(), *words], standalone_mode=False)
            message = str(caught.value)
            assert str(path) in message
            assert "\n" not in message
            assert role not in OUTPUTS or "--" in message  # the option to change
            assert sorted(folder.rglob("*")) == before, message


def test_a_path_in_a_folder_that_may_not_be_entered_is_named(
    usable: dict[str, object], tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    outputs = {name: tmp_path / f"{name}.safetensors" for name in OUTPUTS}
    calls = []
    for name, template in COMMANDS.items():
        for role in _roles(template):
            path = closed / ("x.yaml" if "preset" in role else "x.safetensors")
            given = {**outputs, **usable, role: path}
            calls.append([*name.split(), *(word.format(**given) for word in template.split())])
    listed, answers = tmp_path / "calls.json", tmp_path / "answers.json"
    listed.write_text(json.dumps(calls))
    command = [sys.executable, "-c", _RUN_EACH, str(listed), str(answers)]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root can enter every folder, and there is no setpriv to prevent it")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    done = run(command)
    assert done.returncode == 0, done.stderr
    for words, answer in zip(calls, json.loads(answers.read_text()), strict=True):
        assert re.search(rf"{closed}(/x\S*)?: Permission denied; ", answer), (words, answer)
        assert not answer.startswith("not named"), (words, answer)


@pytest.mark.parametrize("name", [name for name in COMMANDS if "out_f" in COMMANDS[name]])
def test_a_url_does_not_become_a_folder(
    name: str, usable: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Shards may be written to a URL, so theirs has a scheme that nobody knows.
    url = f"{'nobody' if name.startswith('shard ') else 'S3'}://bucket/x.safetensors"
    given = {**usable, "out_folder": url, "out_file": url, "out_picture": url}
    words = [word.format(**given) for word in COMMANDS[name].split()]
    with pytest.raises(
        InputError, match=r":/+bucket/x\.safetensors.*: (is a URL|no such|.*rotocol)"
    ):
        app([*name.split(), *words], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_however_out_was_given(tmp_path: Path) -> None:
    @disk_errors_named
    def write(out: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for call in (lambda: write(tmp_path), lambda: write(out=tmp_path)):
        with pytest.raises(InputError, match=f"{tmp_path}: No space left on device; free some"):
            call()


def test_a_full_disk_elsewhere_is_not_blamed_on_out(tmp_path: Path) -> None:
    @disk_errors_named
    def write(out: Path, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    work = tmp_path / "work"
    with pytest.raises(InputError, match=f"{work}: No space left on device; free some"):
        write(work, work / "x")
    with pytest.raises(InputError, match=f"{tmp_path}/workshop: No space left on device; free"):
        write(work, tmp_path / "workshop")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_refusal_is_named_if_it_is_of_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    @disk_errors_named
    def write(out: Path, path: Path) -> None:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.chdir(tmp_path)
    for out in (tmp_path / "work", Path("work")):
        message = f"{out / 'x'}: {os.strerror(code)}; make {out} readable and writable"
        with pytest.raises(InputError, match=re.escape(message)):
            write(out, out / "x")
        with pytest.raises(OSError, match="workshop"):
            write(out, tmp_path / "workshop")


def test_a_name_that_is_too_long_is_named_if_it_is_of_out(tmp_path: Path) -> None:
    @disk_errors_named
    def look(out: Path, path: Path) -> None:
        path.stat()

    out, other = tmp_path / ("x" * 300), tmp_path / ("y" * 300)
    with pytest.raises(InputError, match=f"{out}: File name too long; choose another out"):
        look(out, out)
    with pytest.raises(OSError, match="yyy"):
        look(out, other)


def _changed_folder(name: str) -> str:
    """What the folder is for that a command writes to; "" if it only reads."""
    if name == "inspect teachers" or "--out {work}" in COMMANDS[name]:
        return "work"
    if name == "doctor":  # measures the disk
        return "root"
    return "out_folder" if "{out_folder}" in COMMANDS[name] else ""


def _commands_in(usable: dict[str, object], folder: Path) -> Iterator[tuple[list[str], str]]:
    """Yields (words, the folder that is changed or "") of every command, with folders that exist.

    New files lie in `folder`, and the empty folder in it is an `out_folder` too.
    """
    for name, template in COMMANDS.items():
        changed = _changed_folder(name)
        existing = (folder / "empty", usable["work"])
        for out in existing if changed == "out_folder" else existing[:1]:
            new = {"out_file": folder / f"{name}.safetensors", "out_picture": folder / "x.png"}
            given = {**new, **usable, "out_folder": out}
            words = [*name.split(), *(word.format(**given) for word in template.split())]
            yield words, str(given.get(changed, ""))


def test_a_folder_that_is_read_only_is_read_or_named(
    usable: dict[str, object], tmp_path: Path
) -> None:
    if not has_mounts():
        pytest.skip("no user namespaces here, so no folder can be made read-only")
    (tmp_path / "empty").mkdir()
    commands = list(_commands_in(usable, tmp_path))
    calls, answers = tmp_path / "calls.json", tmp_path / "answers.json"
    calls.write_text(json.dumps([words for words, _ in commands]))
    read_only = [tmp_path / "empty", usable["work"], Path(str(usable["root"])).parent]
    code = [sys.executable, "-c", _RUN_EACH, str(calls), str(answers)]
    script = ["sh", "-c", _WITH_READ_ONLY, "sh", *map(str, read_only), "--"]
    done = run(["unshare", "-Urm", *script, *code])
    assert done.returncode == 0, done.stderr
    found = json.loads(answers.read_text())
    for (words, folder), answer in zip(commands, found, strict=True):
        assert bool(answer) == bool(folder), (words, answer)
        assert answer.startswith(folder), (words, answer)
