"""The counter finds the turns that the decoder's interface implies."""

import shutil
from bisect import bisect_right
from pathlib import Path

import numpy as np
import pytest

from bench.interpreter_turns import count_turns
from loaders import open_loader
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.reader import ShardReader


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb counts")
def test_compiled_code_takes_three_turns_for_a_short_clip(textured_shards: Manifest) -> None:
    """One decodes, and two make views, however many frames the decoder sees."""
    turns = count_turns(textured_shards.root, "student", 16, 3)
    assert turns["compiled kernel"] == 3 * 3
    assert not [name for name in turns if "CodecContext" in name]
    assert turns.total() < 3 * 12  # 17 a video while NumPy found the frames


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb counts")
def test_pyav_takes_several_turns_for_each_frame(
    textured_shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the counter sees what it is there for: here PyAV decodes, since the version is unknown."""
    (tmp_path / "sitecustomize.py").write_text(
        "import av\nav.library_versions['libavcodec'] = (0, 0, 0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    turns = count_turns(textured_shards.root, "student", 16, 3)
    num_frames = _num_decoded(textured_shards, 3)
    found = {name.partition("CodecContext__")[2]: number for name, number in turns.items()}
    # The second receive says that there are no more frames.
    assert (found["decode"], found["recv_frame"]) == (num_frames, 2 * num_frames)


def _num_decoded(manifest: Manifest, num_videos: int) -> int:
    """Frames from the start of each GOP to the last one of it that a view shows."""
    number = 0
    with (
        ShardReader(manifest) as reader,
        open_loader(manifest, "student", size_px=16, batch_size=1, device="cpu") as loader,
    ):
        plans = loader.planner.stream(0)
        for _ in range(num_videos):
            plan = next(plans)
            wanted = np.unique(plan.frames[0]).tolist()
            window = reader.read_window(int(plan.rows[0]), wanted[0], wanted[-1])
            starts = window.byte_range.gop_frames
            last_of = {starts[bisect_right(starts, frame) - 1]: frame for frame in wanted}
            number += sum(last - start + 1 for start, last in last_of.items())
    return number


def test_without_gdb_the_error_says_what_to_install(
    textured_shards: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="gdb is not installed"):
        count_turns(textured_shards.root, "student", 16, 1)
