import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from loaders.loader_process.process import shared_process
from tb.config.load_config import load_config
from tb.demo.demo import PRESET, demo_shards
from tb.demo.motions import HEIGHT_PX, WIDTH_PX
from tb.demo.videos import DemoSize, draw_video, write_demo_videos
from tb.demo.worlds import MOTION_CLASSES, OBJECTS
from tb.evaluation.evaluate import evaluate
from tb.weights.checkpoint import file_digest
from tb.workflow.run import run_stage
from tests.processes import wait_until_dead
from tests.shards.helpers import children_of
from tests.tb.commands import complaint, next_command, start, tb

Signal = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def demo(out: Path) -> tuple[str, ...]:
    """The words of the command."""
    return ("demo", "--out", str(out), "--size", "tiny")


def result(out: Path) -> dict[str, object]:
    """result.json without the times."""
    found: dict[str, object] = json.loads((out / "result.json").read_text())
    for name in ("seconds", "data_wait_fraction"):
        del found[name]
    return found


def checkpoints(out: Path) -> dict[str, str]:
    """Stage -> digest of its final checkpoint."""
    return {path.parent.name: file_digest(path) for path in out.rglob("checkpoint.pt")}


@pytest.fixture(scope="module", autouse=True)
def one_stage_at_a_time() -> Iterator[None]:
    """Stages run in this process. A demo that is killed is a program with its own children."""
    kept = shared_process()  # otherwise every stage starts one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tb.demo.demo.num_cpus", lambda: 1)
        yield
    del kept


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    printed = tb(*demo(out))
    assert "student" in printed
    assert str(out / "report.html") in printed
    return out


def test_demo_leaves_report_and_result(uninterrupted: Path) -> None:
    assert (uninterrupted / "report.html").is_file()
    assert result(uninterrupted)["num_videos"] == {
        "train": 48,
        "labelled": 24,
        "validation": 0,
        "test": 24,
    }


def test_a_demo_without_a_world_shows_objects(uninterrupted: Path, tmp_path: Path) -> None:
    """Earlier code did not write down which world it is."""
    out = tmp_path / "out"
    shutil.copytree(uninterrupted, out, ignore=shutil.ignore_patterns("work"))
    first = demo_shards(out, size="tiny", seed=0)
    claim = json.loads((out / "demo.json").read_text())
    assert claim.pop("world") == "objects"
    (out / "demo.json").write_text(json.dumps(claim))
    assert demo_shards(out, size="tiny", seed=0).digest == first.digest


def test_the_same_command_again_repeats_nothing(uninterrupted: Path) -> None:
    saved = list(uninterrupted.rglob("checkpoint.pt"))
    before = [path.stat().st_mtime_ns for path in saved]
    wanted = result(uninterrupted)
    following = next_command(*demo(uninterrupted))
    assert following[:2] == ["predict", str(uninterrupted / "work")]
    assert list(Path(following[2]).glob("*.mp4"))
    assert [path.stat().st_mtime_ns for path in saved] == before
    assert result(uninterrupted) == wanted


def test_another_demo_or_foreign_folder_is_refused(uninterrupted: Path, tmp_path: Path) -> None:
    for other in (("--seed", "1"), ("--world", "places")):
        message = complaint(*demo(uninterrupted), *other)
        assert "holds a demo with size tiny, seed 0, world objects" in message
    for content in ("[1]", "{"):
        (tmp_path / "odd").mkdir(exist_ok=True)
        (tmp_path / "odd" / "demo.json").write_text(content)
        assert "not usable" in complaint(*demo(tmp_path / "odd"))
    shutil.rmtree(tmp_path / "odd")
    (tmp_path / "thesis.tex").touch()
    assert "holds something else" in complaint(*demo(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def descendants(pid: int) -> list[int]:
    """The process's children, theirs, and so on (Linux)."""
    return [one for child in children_of(pid) for one in (child, *descendants(child))]


def kill_and_go_on(out: Path, delays_s: list[float]) -> None:
    """Kills the demo (alone, not its children) after each delay, then lets it finish."""
    for delay in delays_s:
        process = start(*demo(out), folder=out.parent)
        process.join(delay)
        assert process.pid is not None
        family = descendants(process.pid)
        process.kill()
        process.join()
        wait_until_dead(*family)
    tb(*demo(out))


@pytest.mark.slow
def test_killed_and_run_again_ends_the_same(uninterrupted: Path, tmp_path: Path) -> None:
    kill_and_go_on(tmp_path / "out", [2.0])
    assert result(tmp_path / "out") == result(uninterrupted)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_many_moments_ends_the_same(uninterrupted: Path, tmp_path: Path) -> None:
    delays = [random.Random(seed).uniform(0, 6) for seed in range(12)]
    kill_and_go_on(tmp_path / "out", delays)
    assert result(tmp_path / "out") == result(uninterrupted)
    assert checkpoints(tmp_path / "out") == checkpoints(uninterrupted)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_distinctive_teacher_learns_the_small_demo(tmp_path: Path) -> None:
    """It had 70 % with seed 0, where supervised training on the same labels had 56 %."""
    manifest, config = demo_shards(tmp_path, size="small", seed=0), load_config(PRESET)
    for stage in ("distinctive", "finetune-distinctive"):
        run_stage(stage, manifest, config, tmp_path / "work")
    found = evaluate("finetune-distinctive", manifest, config, tmp_path / "work")
    assert found.num_videos == 240
    assert found.top1 > 0.65


def test_videos_are_real_deterministic_and_of_every_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = DemoSize(train=1, test=1)
    for num_processes, folder in ((1, "one"), (2, "two")):
        monkeypatch.setattr("tb.demo.videos.num_cpus", lambda num=num_processes: num)
        write_demo_videos(tmp_path / folder, size=size, seed=3, progress=lambda done, total: None)
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.mp4"))
    assert len(names) == size.num_videos
    lengths = []
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        with av.open(str(tmp_path / "one" / name)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            lengths.append(sum(1 for _ in container.decode(video=0)))
    assert min(lengths) < 64 < max(lengths)


def disc(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T,) the disc's share of each picture, and its centre's y and x in pixels."""
    frames = frames.astype(int)
    # The disc is the colour furthest from the picture's median.
    far = np.abs(frames - np.median(frames, axis=(1, 2), keepdims=True)).sum(-1) > 90
    num_px = np.maximum(far.sum(axis=(1, 2)), 1)
    y = (far * np.arange(HEIGHT_PX)[:, None]).sum(axis=(1, 2)) / num_px
    x = (far * np.arange(WIDTH_PX)).sum(axis=(1, 2)) / num_px
    return far.mean(axis=(1, 2)), y, x


def typical_step(values: np.ndarray) -> float:
    return float(np.median(np.diff(values)))


def turning(size: np.ndarray, y: np.ndarray, x: np.ndarray) -> float:
    """Above 0 for clockwise, because y points down."""
    return typical_step(np.unwrap(np.arctan2(y - HEIGHT_PX / 2, x - WIDTH_PX / 2)))


def hop_after_pulse(size: np.ndarray, y: np.ndarray, x: np.ndarray) -> float:
    """Above 0 if the disc hops a third of a cycle after it grows, below 0 if before."""
    lag, growth, height = 32, size - size.mean(), y.mean() - y
    return float((growth[:-lag] * height[lag:]).sum() - (growth[lag:] * height[:-lag]).sum())


@pytest.fixture
def plain_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scene, so that the disc can be found by its colour."""
    monkeypatch.setattr("tb.demo.scenes._DEPTH", 0.0)


@pytest.mark.usefixtures("plain_background")
@pytest.mark.parametrize(
    ("name", "opposite", "signal"),
    [
        ("right", "left", lambda size, y, x: typical_step(x)),
        ("clockwise", "anticlockwise", turning),
        ("grow", "shrink", lambda size, y, x: typical_step(size)),
        ("pulse_then_hop", "hop_then_pulse", hop_after_pulse),
    ],
)
def test_a_motion_class_moves_as_its_name_says(name: str, opposite: str, signal: Signal) -> None:
    """In videos of most of a cycle: a shorter one may show one of two events."""
    drawn = (
        [draw_video(which, np.random.default_rng(seed)) for which in (name, opposite)]
        for seed in range(9)
    )
    long = [videos for videos in drawn if len(videos[0]) >= 80]
    assert len(long) >= 4
    for videos in long:
        one, other = (signal(*disc(frames)) for frames in videos)
        assert one > 0 > other


@pytest.mark.usefixtures("plain_background")
@pytest.mark.parametrize(
    ("name", "opposite"),
    [
        ("left", "right"),
        ("clockwise", "anticlockwise"),
        ("grow", "shrink"),
        ("pulse_then_hop", "hop_then_pulse"),
    ],
)
def test_a_motion_class_shows_the_same_states_as_its_opposite(name: str, opposite: str) -> None:
    """The disc's size and height, over many videos: no single frame tells the two apart."""
    assert {name, opposite} <= set(MOTION_CLASSES)
    assert set(MOTION_CLASSES) < set(OBJECTS.classes)
    shares = []
    for which in (name, opposite):
        sizes = []
        for seed in range(12):
            frames = draw_video(which, np.random.default_rng(seed))[::4]
            sizes += disc(frames)[0].tolist()
        shares.append(np.quantile(sizes, [0.25, 0.5, 0.75]))
    assert np.abs(shares[0] - shares[1]).max() < 0.06
