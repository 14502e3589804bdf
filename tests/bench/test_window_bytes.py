"""What windows cost in bytes: the parts add up, and the bench counts them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import window_bytes
from bench.window_bytes import WindowBytes
from shards.encode.recipe import Recipe
from shards.format.packets import Packets
from tests.make_videos import make_video


@given(
    sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=40),
    gop=st.integers(1, 20),
    data=st.data(),
)
def test_a_window_is_all_groups_that_hold_one_of_its_frames(
    sizes: list[int], gop: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(sizes) - 1))
    last = data.draw(st.integers(first, len(sizes) - 1))
    starts = np.arange(0, len(sizes), gop)
    packets = Packets(
        first_byte=48,
        sizes=np.array(sizes),
        gop_frames=starts,
        checksums=0 * starts,
        extradata=b"",
    )
    begin, end = first // gop * gop, (last // gop + 1) * gop
    found = window_bytes.window_bytes([(packets, first, last)] * 3)
    assert found == WindowBytes(
        before=3 * sum(sizes[begin:first]),
        shown=3 * sum(sizes[first : last + 1]),
        after=3 * sum(sizes[last + 1 : end]),
    )
    assert found.fetched_over_shown == sum(sizes[begin:end]) / sum(sizes[first : last + 1])


def test_shorter_groups_cost_bytes_on_disk_and_save_them_in_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(2):
        make_video(tmp_path / "set" / "jump" / f"{index}.mp4", num_frames=32, seed=index)
    recipes = [Recipe(), replace(Recipe(), gop=4), Recipe(codec="mjpeg")]
    monkeypatch.setattr(window_bytes, "RECIPES", recipes)
    words = ["--videos", str(tmp_path / "set"), "--json", str(tmp_path / "found.json")]
    window_bytes.main([*words, "--epochs", "5", "--views", "student"])
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["settings"]["clips"] == 2
    long, short, single = report["recipes"]
    assert [one["gop"] for one in report["recipes"]] == [16, 4, None]
    assert long["bytes_per_video"] < short["bytes_per_video"] < single["bytes_per_video"]
    ratios = [one["fetched_over_shown"]["student"] for one in report["recipes"]]
    assert ratios[0] > ratios[1] > ratios[2] == 1
    titles, *lines = capsys.readouterr().out.splitlines()
    assert titles.endswith("| `student` kB/window | fetched / shown |")
    assert [line.split("|")[-2].strip() for line in lines[1:]] == [f"{one:.2f}" for one in ratios]
