"""The bench of the proof encodes the videos in both ways."""

import json
from pathlib import Path

import pytest

from bench import proof_cost
from shards.encode import encode_parts
from shards.encode.check_stored import Checked
from shards.errors import InputError
from tests.make_videos import make_video


def test_each_video_is_encoded_with_and_without_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        make_video(tmp_path / "videos" / "x" / f"{name}.mp4", num_frames=20)
    (tmp_path / "videos" / "x" / "bad.mp4").write_bytes(b"no video")
    proven: list[bool] = []
    check_stored = encode_parts.check_stored

    def checking(*args: object, **options: object) -> Checked:
        checked: Checked = check_stored(*args, **options)
        proven.append(checked.is_proven)
        return checked

    monkeypatch.setattr(encode_parts, "check_stored", checking)
    monkeypatch.setattr(proof_cost, "_WITHOUT", lambda *args: checking(*args, is_indexed=False))
    words = ["--videos", str(tmp_path / "videos"), "--rounds", "1"]
    proof_cost.main([*words, "--json", str(tmp_path / "found.json")])
    # The first two are those that look which videos can be encoded.
    assert proven == [True, True, True, True, False, False]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["videos"] == 2
    rounds = {name: [found[name]] for name in ("with_s", "without_s")}
    assert found["rounds"] == rounds
    assert found["share"] == pytest.approx(1 - found["without_s"] / found["with_s"])


def test_a_folder_without_a_usable_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="no video can be encoded"):
        proof_cost.main(["--videos", str(tmp_path)])
