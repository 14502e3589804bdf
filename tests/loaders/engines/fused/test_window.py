"""Compiled code decodes a window like PyAV, and PyAV decodes whatever it does not."""

import ctypes
import gc
import logging
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders.decode import DecodeError, Planes, decoded_planes
from loaders.engines.fused import libavcodec
from loaders.engines.fused import window as window_module
from loaders.engines.fused.libavcodec import OpenDecoder, UnusableError
from loaders.engines.fused.window import window_planes
from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest, read_manifest
from shards.format.packet_index import Window
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tests.loaders.recipes import LENGTHS, RECIPES, RecipeShards
from tests.make_videos import make_video

Turn = tuple[int, list[list[bytes]], bytes, tuple[int, ...]]
"""What is compared: k, the planes of each frame, the matrix, black and white."""


@pytest.fixture
def compiled_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV decodes no window."""
    assert window_module._decoders_of_this_thread() is not None

    def refused(*_: object) -> Iterator[tuple[int, Planes]]:
        raise AssertionError("PyAV was asked")

    monkeypatch.setattr(window_module, "decoded_planes", refused)


@pytest.fixture
def new_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whether libavcodec can be used is found out in the test, and forgotten afterwards."""

    def forget() -> None:
        vars(window_module._of_thread).clear()
        gc.collect()  # whatever is freed asks for the library
        window_module._agrees_with_pyav.cache_clear()
        libavcodec._library.cache_clear()
        libavcodec._calls.cache_clear()

    forget()
    yield
    monkeypatch.undo()
    forget()


def _whole(manifest: Manifest, num_frames: int) -> Window:
    """All of the video that has so many frames."""
    row = manifest.num_frames.tolist().index(num_frames)
    with ShardReader(manifest) as reader:
        return reader.read_window(row, 0, num_frames - 1)


def _turns(turns: Iterator[tuple[int, Planes]], window: Window) -> list[Turn]:
    height, width = window.size
    sizes = [(height, width), *[((height + 1) // 2, (width + 1) // 2)] * 2]
    return [
        (
            k,
            [
                [
                    _rows(int(address), int(stride), size)
                    for address, stride, size in zip(*frame, sizes, strict=True)
                ]
                for frame in zip(planes.addresses, planes.strides, strict=True)
            ],
            planes.to_rgb.tobytes(),
            tuple(int(value) for value in planes.luma_range),
        )
        for k, planes in turns
    ]


def _rows(address: int, stride: int, size: tuple[int, int]) -> bytes:
    return b"".join(ctypes.string_at(address + y * stride, size[1]) for y in range(size[0]))


def _ours(window: Window, wanted: np.ndarray) -> list[Turn]:
    return _turns(window_planes(window, wanted, len(wanted)), window)


def _theirs(window: Window, wanted: np.ndarray) -> list[Turn]:
    return _turns(decoded_planes(window, wanted, len(wanted), window.size), window)


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
    assert sum(len(frames) for _, frames, _, _ in ours) == len(wanted)


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
        try:
            found.append(str(list(decoded(damaged, wanted))[-1:]))
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
    ],
)
def test_a_wrong_window_is_an_error_and_its_decoder_is_not_kept(
    recipe_shards: RecipeShards, change: dict[str, object], reason: str
) -> None:
    window = _whole(recipe_shards("h264"), 17)
    with pytest.raises(DecodeError, match=reason):
        _ours(replace(window, **change), np.arange(3))  # type: ignore[arg-type]
    assert all(size == window.size for _, _, size in window_module._of_thread.decoders._open)


@pytest.mark.parametrize("wanted", [[-1, 2], [0, 17], [40]])
def test_frames_outside_the_window_are_not_looked_for_in_memory(
    recipe_shards: RecipeShards, wanted: list[int]
) -> None:
    window, decoders = _whole(recipe_shards("h264"), 17), window_module._no_decoders()
    with pytest.raises(UnusableError, match="does not hold these frames"):
        next(window_module._compiled_planes(decoders, window, np.array(wanted)))
    short = replace(window, data=window.data[:-1])
    with pytest.raises(UnusableError, match="does not hold these frames"):
        next(window_module._compiled_planes(decoders, short, np.array([0])))


@pytest.mark.usefixtures("compiled_only")
def test_the_memory_of_a_turn_is_used_again(recipe_shards: RecipeShards) -> None:
    """Otherwise 64 frames would be in memory, and not in the processor's cache."""
    window = _whole(recipe_shards("h264"), 70)
    found = [planes.addresses for _, planes in window_planes(window, np.arange(64), 70)]
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
    freed = []
    free = libavcodec._free

    def noted(context: int, packet: int, frames: list[int]) -> None:
        freed.append(context)
        free(context, packet, frames)

    monkeypatch.setattr(libavcodec, "_free", noted)
    decoders = window_module._no_decoders()
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


@pytest.mark.usefixtures("new_check")
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("version", "the places of fields are not known for libavcodec 61, libavutil 60"),
        ("function", "PyAV's library has no function av_frame_alloc"),
        ("opening", "a decoder cannot be opened"),
        ("place", "libavcodec gave another picture"),
    ],
)
def test_where_libavcodec_cannot_be_used_pyav_decodes_and_a_warning_says_why(
    recipe_shards: RecipeShards,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
    reason: str,
) -> None:
    if broken == "version":
        monkeypatch.setitem(av.library_versions, "libavcodec", (61, 0, 0))
    elif broken == "function":
        monkeypatch.setattr(libavcodec.ctypes, "CDLL", lambda _: object())
    elif broken == "opening":
        monkeypatch.setattr(libavcodec, "max_pixels", lambda _: -1)
    else:
        decode = window_module.decode_turn

        def misplaced(*args: object) -> int:
            next_packet: int = decode(*args)
            args[-1][..., 0] += 1  # type: ignore[index]
            return next_packet

        monkeypatch.setattr(window_module, "decode_turn", misplaced)
    window, wanted = _whole(recipe_shards("vp9"), 17), np.array([0, 5, 16])
    with caplog.at_level(logging.WARNING):
        assert _ours(window, wanted) == _ours(window, wanted) == _theirs(window, wanted)
    (record,) = caplog.records
    assert reason in record.message
    assert "engine fused decodes with PyAV" in record.message


def test_a_decoder_says_what_it_cannot_open(recipe_shards: RecipeShards) -> None:
    window = _whole(recipe_shards("h264"), 1)
    with pytest.raises(UnusableError, match="no decoder of the name nothing"):
        OpenDecoder(replace(window, codec="nothing"), 1)
