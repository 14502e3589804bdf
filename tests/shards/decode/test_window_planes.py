"""Compiled code decodes a window like PyAV, and PyAV decodes whatever it does not."""

import gc
import logging
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.decode import libavcodec, packet_decoder
from shards.decode import window_planes as window_module
from shards.decode.libavcodec import OpenDecoder, UnusableError
from shards.decode.packet_decoder import FRAMES_PER_TURN, DecodeError, pyav_planes
from shards.decode.planes import Colors, Planes
from shards.decode.window_planes import proof_planes, window_planes
from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest, read_manifest
from shards.format.packets import INDEXED_CODECS, Window
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tests.make_videos import make_video
from tests.recipes import LENGTHS, RECIPES, RecipeShards

_BEHIND = 10**9

Turn = tuple[int, list[list[bytes]], Colors]
"""What is compared: k, the planes of each frame, and their colours."""


@pytest.fixture
def compiled_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV decodes no window."""

    def refused(*_: object) -> Iterator[tuple[int, Planes]]:
        raise AssertionError("PyAV was asked")

    monkeypatch.setattr(window_module, "_agrees_with_pyav", dict.fromkeys(INDEXED_CODECS, True))
    monkeypatch.setattr(window_module, "pyav_planes", refused)


@pytest.fixture
def new_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whether libavcodec can be used is found out in the test, and forgotten afterwards."""

    def forget() -> None:
        libavcodec._library.cache_clear()
        libavcodec._calls.cache_clear()
        libavcodec.unusable_library.cache_clear()

    forget()
    monkeypatch.setattr(window_module, "_agrees_with_pyav", {})
    yield
    monkeypatch.undo()
    forget()


def _whole(manifest: Manifest, num_frames: int) -> Window:
    """All of the video that has so many frames."""
    row = manifest.num_frames.tolist().index(num_frames)
    with ShardReader(manifest) as reader:
        return reader.read_window(row, 0, num_frames - 1)


def _turns(turns: Iterator[tuple[int, Planes]], window: Window) -> list[Turn]:
    return [
        (
            k,
            [
                [planes.pixels(frame, plane, window.size).tobytes() for plane in range(3)]
                for frame in range(len(planes.addresses))
            ],
            planes.colors,
        )
        for k, planes in turns
    ]


def _ours(window: Window, wanted: np.ndarray) -> list[Turn]:
    return _turns(window_planes(window, wanted), window)


def _theirs(window: Window, wanted: np.ndarray) -> list[Turn]:
    return _turns(pyav_planes(window, wanted), window)


@pytest.mark.usefixtures("compiled_only")
@pytest.mark.parametrize("recipe", RECIPES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(0, len(LENGTHS) - 1), data=st.data())
def test_any_frames_are_those_of_pyav(
    recipe_shards: RecipeShards, recipe: str, row: int, data: st.DataObject
) -> None:
    manifest = recipe_shards(recipe)
    numbers = st.integers(0, int(manifest.num_frames[row]) - 1)
    wanted = np.array(data.draw(st.lists(numbers, min_size=1, unique=True).map(sorted)))
    with ShardReader(manifest) as reader:
        window = reader.read_window(row, int(wanted[0]), int(wanted[-1]))
    ours = _ours(window, wanted)
    assert ours == _theirs(window, wanted)
    assert sum(len(frames) for _, frames, _ in ours) == len(wanted)


@pytest.mark.parametrize("recipe", RECIPES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bits=st.lists(st.integers(0, 2**32), min_size=1, max_size=3))
def test_a_damaged_window_has_the_fault_of_pyav_and_the_next_one_has_none(
    recipe_shards: RecipeShards, recipe: str, bits: list[int]
) -> None:
    window, wanted = _whole(recipe_shards(recipe), 33), np.arange(2, 30, 3)
    good, data = _ours(window, wanted), bytearray(window.data)
    for bit in bits:
        data[bit % len(data)] ^= 1 << bit // len(data) % 8
    damaged = replace(window, data=bytes(data))
    found = []
    for decoded in (_ours, _theirs):
        # A decoder may fill what is damaged with pixels of earlier pictures, and even fail by them.
        for module in (window_module, packet_decoder):
            vars(module._of_thread).clear()
        try:
            decoded(damaged, wanted)
            found.append("pictures")
        except DecodeError as error:
            found.append(str(error))
    assert found[0] == found[1]
    assert _ours(window, wanted) == good


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": (144, 190)}, "a picture of 144x192, where the manifest has 144x190"),
        ({"data": b"\0" * 100_000}, "cannot be decoded|does not decode"),
        ({"codec": "no such codec"}, "there is no decoder for 'no such codec' here"),
        ({"codec": "subrip"}, "'subrip' is not a video codec"),
    ],
)
def test_a_wrong_window_is_an_error_and_its_decoder_is_not_kept(
    recipe_shards: RecipeShards, change: dict[str, object], reason: str
) -> None:
    window = _whole(recipe_shards("h264"), 17)
    _ours(window, np.arange(3))
    wrong = replace(window, **change)  # type: ignore[arg-type]
    with pytest.raises(DecodeError, match=reason):
        _ours(wrong, np.arange(3))
    kept = window_module._of_thread.decoders._open
    assert (wrong.codec, wrong.byte_range.extradata, wrong.size) not in kept
    is_same = (wrong.codec, wrong.size) == (window.codec, window.size)
    assert ((window.codec, window.byte_range.extradata, window.size) in kept) is not is_same


@pytest.mark.usefixtures("new_check")
def test_a_first_window_that_compiled_code_refuses_says_nothing_of_others(
    recipe_shards: RecipeShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, wanted = _whole(recipe_shards("vp9"), 33), np.array([0, 5, 16])
    expected = _theirs(window, wanted)
    with monkeypatch.context() as patch:
        patch.setattr(window_module, "decode_turn", lambda *_: -1)
        assert _ours(window, wanted) == expected
    assert window_module._agrees_with_pyav == {}
    assert _ours(window, wanted) == expected
    assert window_module._agrees_with_pyav == {"vp9": True}


@pytest.mark.usefixtures("new_check")
def test_without_its_library_pyav_proves(
    recipe_shards: RecipeShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, wanted = _whole(recipe_shards("vp9"), 33), np.arange(33)
    expected = _theirs(window, wanted)
    monkeypatch.setitem(av.library_versions, "libavcodec", (61, 0, 0))
    assert _turns(proof_planes(window, wanted, frames_per_turn=16), window) == expected


def test_a_generator_that_is_closed_in_the_middle_keeps_no_decoder(
    recipe_shards: RecipeShards,
) -> None:
    window = _whole(recipe_shards("h264"), 70)
    good = _ours(window, np.arange(40))
    vars(window_module._of_thread).clear()
    turns = window_planes(window, np.arange(40))
    next(turns)
    turns.close()  # type: ignore[attr-defined]
    assert not window_module._of_thread.decoders._open
    assert _ours(window, np.arange(40)) == good


@pytest.mark.parametrize(
    ("wanted", "change"),
    [
        ([-1, 2], {}),
        ([0, 17], {}),
        ([40], {}),
        ([5, 5], {}),
        ([5, 4], {}),
        ([0], {0: -1}),
        ([1], {1: 2**20, 2: 2**20 + 1}),
        ([0, 1], {1: 0}),
        ([1], {2: -5}),
        ([16], {17: 2**40}),
        ([16], {17: _BEHIND}),
    ],
)
def test_no_index_leads_out_of_the_window(
    recipe_shards: RecipeShards, wanted: list[int], change: dict[int, int]
) -> None:
    window = _whole(recipe_shards("mjpeg"), 17)  # bytes behind a JPEG do not disturb
    offsets = list(window.byte_range.offsets)
    for place, offset in change.items():
        offsets[place] = len(window.data) + 8 if offset == _BEHIND else offset
    window = replace(window, byte_range=replace(window.byte_range, offsets=tuple(offsets)))
    with pytest.raises(UnusableError, match="gives no picture"):
        list(
            window_module._compiled_planes(window_module._new_decoders(), window, np.array(wanted))
        )


@pytest.mark.usefixtures("compiled_only")
def test_the_memory_of_a_turn_is_used_again(recipe_shards: RecipeShards) -> None:
    """Otherwise 64 frames would be in memory, and not in the processor's cache."""
    window = _whole(recipe_shards("h264"), 70)
    found = [planes.addresses for _, planes in window_planes(window, np.arange(64))]
    assert [len(addresses) for addresses in found] == [16] * 4
    # The decoder has a frame of reference too, and a new one is there before the old one goes.
    assert len({int(address) for address in np.concatenate(found)[:, 0]}) <= 18


@pytest.mark.usefixtures("compiled_only")
def test_eight_decoders_stay_open_and_all_memory_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        path = tmp_path / "videos" / "a" / f"v{number:02}.mp4"
        make_video(path, num_frames=2, height=64, width=64 + 16 * number)
    source = from_folder(tmp_path / "videos")
    ingest(source, tmp_path / "shards", recipe=Recipe(codec="mjpeg"), workers=1)
    manifest = read_manifest(tmp_path / "shards")
    library, freed, num_freed = libavcodec._library(), [], Counter[str]()

    def noting(name: str) -> Callable[[Any], None]:
        free = getattr(library, name)

        def noted(owned: Any) -> None:
            num_freed[name] += 1
            if name == "avcodec_free_context":
                freed.append(owned._obj.value)
            free(owned)

        return noted

    for name in ("avcodec_free_context", "av_packet_free", "av_frame_free"):
        monkeypatch.setattr(library, name, noting(name))
    decoders = window_module._new_decoders()
    opened: weakref.WeakSet[OpenDecoder] = weakref.WeakSet()
    for row in range(10):
        with ShardReader(manifest) as reader:
            window = reader.read_window(row, 0, 1)
        for _, planes in window_module._compiled_planes(decoders, window, np.arange(2)):
            assert isinstance(planes.owner, OpenDecoder)
            opened.add(planes.owner)
        del planes
    contexts = {decoder.context for decoder in opened}
    assert (len(contexts), len(freed)) == (8, 2)
    del decoders
    gc.collect()
    assert not opened
    assert (len(freed), contexts < set(freed)) == (10, True)
    assert num_freed == {
        "avcodec_free_context": 10,
        "av_packet_free": 10,
        "av_frame_free": 10 * (FRAMES_PER_TURN + 1),
    }


@pytest.mark.usefixtures("new_check")
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("version", "not known for libavcodec 61, libavutil 60 with 64 bits"),
        ("function", "PyAV's library cannot be called: .* no attribute 'av_frame_alloc'"),
        ("library", "PyAV's library cannot be called: no such file"),
        ("memory", "a decoder cannot be opened"),
        ("opening", "a decoder cannot be opened"),
        ("Y", "its library gives other pictures"),
        ("U", "its library gives other pictures"),
        ("V", "its library gives other pictures"),
        ("strides", "its library gives other pictures"),
        ("range", "its library gives other pictures"),
        ("matrix", "its library gives other pictures"),
    ],
)
def test_where_libavcodec_cannot_be_used_pyav_decodes_and_a_warning_says_why(
    recipe_shards: RecipeShards,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
    reason: str,
) -> None:
    window, wanted = _whole(recipe_shards("vp9"), 33), np.array([0, 5, 16])
    expected = _theirs(window, wanted)
    _break(broken, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert _ours(window, wanted) == _ours(window, wanted) == expected
    # Another library may log in the meantime.
    (record,) = [one for one in caplog.records if one.name == window_module.__name__]
    assert re.search(reason, record.message)
    assert "PyAV decodes the windows of vp9" in record.message


def _break(what: str, patch: pytest.MonkeyPatch) -> None:
    def no_library(_: str) -> object:
        raise OSError("no such file")

    if what == "version":
        patch.setitem(av.library_versions, "libavcodec", (61, 0, 0))
    elif what == "function":
        patch.setattr(libavcodec.ctypes, "CDLL", lambda _: object())
    elif what == "library":
        patch.setattr(libavcodec.ctypes, "CDLL", no_library)
    elif what == "memory":
        patch.setattr(libavcodec._library(), "av_packet_alloc", lambda: None)
    elif what == "opening":
        patch.setattr(libavcodec, "max_pixels", lambda _: -1)
    else:
        decode = window_module.decode_turn

        def misplaced(*arguments: Any) -> int:
            next_packet: int = decode(*arguments)
            *_, tags, places = arguments
            if what in "YUV":
                places[:, "YUV".index(what), 0] += 1
            elif what == "strides":
                places[:, 1:, 1] -= 1
            else:
                tags[1 if what == "range" else 2] = 2 if what == "range" else 5
            return next_packet

        patch.setattr(window_module, "decode_turn", misplaced)


def test_a_decoder_of_another_kind_is_not_opened(recipe_shards: RecipeShards) -> None:
    """One of subtitles would end the process with its first packet."""
    window = _whole(recipe_shards("h264"), 1)
    for codec in ("subrip", "nothing", "h\ud800"):
        with pytest.raises(UnusableError, match="is none of h264, hevc, vp9, mjpeg"):
            OpenDecoder(replace(window, codec=codec), 1)


def test_a_stream_with_larger_pictures_than_the_manifest_says_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder's limit holds, before a picture of that size is made."""
    path = make_video(tmp_path / "a" / "a.mp4", num_frames=2, height=784, width=1600)
    recipe = Recipe(short_side_px=784)
    ingest(from_folder(path.parents[1], min_per_class=1), tmp_path / "shards", recipe=recipe)
    window = _whole(read_manifest(tmp_path / "shards"), 2)
    decode, formats = window_module.decode_turn, []

    def noted(*arguments: Any) -> int:
        next_packet: int = decode(*arguments)
        formats.append(arguments[-2][0])
        return next_packet

    monkeypatch.setattr(window_module, "decode_turn", noted)
    decoders, small = window_module._new_decoders(), replace(window, size=(64, 64))
    with pytest.raises(UnusableError):
        next(window_module._compiled_planes(decoders, small, np.arange(2)))
    assert formats == [-1]
