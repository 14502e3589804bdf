"""The speeds of engines are measured once for each key, and kept."""

import json
import math
import multiprocessing
import shutil
from pathlib import Path

import pytest

from loaders.engines.speeds import Speeds, kept_speeds
from tests.loaders.forks import forks

KEY = {"gpu": "H100", "stage": "pretrain", "size_px": 224}
ENGINES = ("dali", "fused")


class Measuring:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Speeds:
        self.count += 1
        return {"dali": 10.0 * self.count, "fused": 5.0}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path))
    return tmp_path / "engine-speeds"


def test_a_key_is_measured_once(folder: Path) -> None:
    measure = Measuring()
    first = kept_speeds(KEY, ENGINES, measure)
    assert (
        kept_speeds(dict(reversed(KEY.items())), ENGINES, measure)
        == first
        == {"dali": 10.0, "fused": 5}
    )
    assert measure.count == 1
    (record,) = folder.glob("*.json")
    assert json.loads(record.read_text()) == {"key": KEY, "videos_per_s": first}


@pytest.mark.parametrize("name", KEY)
def test_another_key_is_measured_again(name: str) -> None:
    measure = Measuring()
    kept_speeds(KEY, ENGINES, measure)
    assert kept_speeds({**KEY, name: "other"}, ENGINES, measure)["dali"] == 20
    assert kept_speeds(KEY, ENGINES, measure)["dali"] == 10


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"key": {}, "videos_per_s": {"dali": 1.0}}',
        json.dumps({"key": KEY}).encode(),
        json.dumps({"key": KEY, "videos_per_s": 3}).encode(),
        json.dumps({"key": KEY, "videos_per_s": {}}).encode(),
        json.dumps({"key": KEY, "videos_per_s": {"dali": "fast"}}).encode(),
        json.dumps({"key": KEY, "videos_per_s": {"dali": 1.0}}).encode(),
        json.dumps({"key": KEY, "videos_per_s": {"dali": 1.0, "fused": -1.0}}).encode(),
        json.dumps({"key": KEY, "videos_per_s": {"dali": 1.0, "fused": math.nan}}).encode(),
        json.dumps({"key": KEY, "videos_per_s": dict.fromkeys((*ENGINES, "x"), 1.0)}).encode(),
    ],
)
def test_a_damaged_record_is_measured_again(folder: Path, damage: bytes) -> None:
    measure = Measuring()
    kept_speeds(KEY, ENGINES, measure)
    (record,) = folder.glob("*.json")
    record.write_bytes(damage)
    assert kept_speeds(KEY, ENGINES, measure) == {"dali": 20.0, "fused": 5.0}
    assert kept_speeds(KEY, ENGINES, measure) == {"dali": 20.0, "fused": 5.0}


def test_what_fails_is_not_kept(folder: Path) -> None:
    def failing() -> Speeds:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        kept_speeds(KEY, ENGINES, failing)
    assert list(folder.glob("*.json")) == []
    assert kept_speeds(KEY, ENGINES, Measuring())["dali"] == 10


def test_without_a_folder_nothing_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.parent / "file").touch()
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(folder.parent / "file"))
    measure = Measuring()
    assert [kept_speeds(KEY, ENGINES, measure)["dali"] for _ in range(2)] == [10, 20]
    assert "the speeds of the engines are not kept" in caplog.text


def test_a_folder_that_is_lost_meanwhile_is_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def measure() -> Speeds:
        shutil.rmtree(folder)
        return {"dali": 1.0, "fused": 2.0}

    assert kept_speeds(KEY, ENGINES, measure) == {"dali": 1.0, "fused": 2.0}
    assert "the speeds of the engines are not kept" in caplog.text


def _note(path: Path) -> Speeds:
    with path.open("a") as file:
        file.write("measured\n")
    return {"dali": 1.0, "fused": 2.0}


def _ask(path: Path) -> None:
    assert kept_speeds(KEY, ENGINES, lambda: _note(path)) == {"dali": 1.0, "fused": 2.0}


@forks
def test_processes_that_ask_at_once_measure_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_ask, args=(tmp_path / "notes",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "notes").read_text() == "measured\n"
