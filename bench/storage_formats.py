"""What each storage format costs: bytes, loss, and time to decode a window.

Each video is stored with each recipe. The loss is that of the encoding alone: PSNR over Y, U and V,
and SSIM of Y over 8x8 blocks, against the frames that the encoder got. A window is 16 or 64
consecutive frames from a random place. It is decoded from bytes in memory in one thread, and the
time includes opening and seeking: PyAV to planes as in the CPU engine, torchcodec to RGB with
approximate seeking, DALI on the CPU (vp9 and mjpeg only) to RGB. Recipes take turns within each
window, and medians count. "x264 as it comes" is the output of `ffmpeg -c:v libx264 -crf 18`: groups
of up to 250 pictures, B-frames.

    python -m bench.storage_formats --videos FOLDER [--num-clips 12] [--windows 5]

FOLDER holds class folders with real videos. Videos of fewer than 64 frames are left out.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame

from bench.arguments import count, run_command
from bench.peers import torchcodec_decoder
from loaders.decode import decoded_frames
from shards.encode.check_stored import check_stored
from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.picture_filters import filtered
from shards.encode.probe import open_probed
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.encode.video_stream import decoded
from shards.errors import InputError
from shards.sources.folder import from_folder
from tb.tables.markdown import table_lines

_WINDOWS = (16, 64)
_DEFAULT = Recipe()
_RECIPES = [
    *(replace(_DEFAULT, gop=gop) for gop in (1, 8, 16, 32, 250)),
    *(replace(_DEFAULT, gop=gop, short_side_px=128) for gop in (16, 32)),
    *(Recipe(codec=codec) for codec in ("hevc", "vp9", "mjpeg")),
    Recipe(codec="hevc", short_side_px=144),
    *(Recipe(codec=codec, short_side_px=128) for codec in ("vp9", "mjpeg")),
    Recipe(codec="copy"),
]
_AS_IT_COMES = Recipe(gop=250, preset="medium")
_ROWS = [("x264 as it comes", _AS_IT_COMES), *((recipe.codec, recipe) for recipe in _RECIPES)]
Decode = Callable[[Encoded, int, int], object]


@dataclass
class Tally:
    """The measurements of one recipe; `ms` has a list for each (decoder, frames)."""

    num_bytes: list[int] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    ms: dict[tuple[str, int], list[float]] = field(default_factory=dict)


def main() -> None:
    """Stores, compares and times every video, then prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--num-clips", type=count, default=12)
    parser.add_argument("--windows", type=count, default=5)
    arguments = parser.parse_args()
    decoders = {"PyAV": _pyav, **_torchcodec(), **_dali()}
    tallies = [Tally() for _ in _ROWS]
    num_done = 0
    rng = np.random.default_rng(0)
    for source in from_folder(arguments.videos, min_per_class=1).sources:
        if num_done == arguments.num_clips:
            break
        try:
            stored = [transcode(source.path, recipe) for recipe in _RECIPES]
            stored.insert(0, _as_it_comes(source.path))
        except TranscodeError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if min(encoded.num_frames for encoded in stored) < max(_WINDOWS):
            continue
        num_done += 1
        print(f"{num_done}: {source.key}", file=sys.stderr)
        _measure(source.path, stored, tallies, decoders, rng, arguments.windows)
    if not num_done:
        raise InputError(f"{arguments.videos}: no video has {max(_WINDOWS)} frames; give others")
    print(_table(tallies, list(decoders)))


def _measure(
    path: Path,
    stored: list[Encoded],
    tallies: list[Tally],
    decoders: dict[str, Decode],
    rng: np.random.Generator,
    num_windows: int,
) -> None:
    for (_, recipe), encoded, tally in zip(_ROWS, stored, tallies, strict=True):
        tally.num_bytes.append(len(encoded.data))
        if recipe.codec != "copy":
            psnr, ssim = loss(path, recipe, encoded)
            tally.psnr.append(psnr)
            tally.ssim.append(ssim)
    num_frames = min(encoded.num_frames for encoded in stored)
    for length in _WINDOWS:
        for start in rng.integers(0, num_frames - length + 1, num_windows):
            for name, decode in decoders.items():
                for (recipe, _), encoded, tally in zip(_ROWS, stored, tallies, strict=True):
                    if name.startswith("DALI") and recipe not in ("vp9", "mjpeg"):
                        continue
                    begin = time.perf_counter()
                    decode(encoded, int(start), length)
                    elapsed_ms = (time.perf_counter() - begin) * 1000
                    tally.ms.setdefault((name, length), []).append(elapsed_ms)


def _as_it_comes(path: Path) -> Encoded:
    output, num_frames = io.BytesIO(), 0
    with (
        open_probed(path) as (container, stream, probed),
        av.open(output, "w", format="mp4") as target,
    ):
        encoder = target.add_stream("libx264", rate=probed.fps, options={"crf": "18"})
        encoder.codec_context.thread_count = 1
        frames = decoded(container, stream, probed.num_packets)
        given = filtered(frames, stream, probed, _AS_IT_COMES)
        for index, frame in enumerate(given):
            if index == 0:
                encoder.height, encoder.width = frame.height, frame.width
            frame.pts, frame.time_base, frame.pict_type = index, 1 / probed.fps, PictureType.NONE
            target.mux(encoder.encode(frame))
            num_frames += 1
        target.mux(encoder.encode(None))
        height, width = encoder.height, encoder.width
    data = output.getvalue()
    checked = check_stored(data, num_frames, (height, width), "h264", is_indexed=False)
    return Encoded(
        data=data,
        num_frames=num_frames,
        fps=probed.fps,
        height=height,
        width=width,
        codec="h264",
        pictures=checked.pictures,
    )


def loss(path: Path, recipe: Recipe, encoded: Encoded) -> tuple[float, float]:
    """PSNR over Y, U and V in dB, and SSIM of Y, against the frames that the encoder got."""
    squares, num_samples, ssim = 0.0, 0, []
    with open_probed(path) as (container, stream, probed):
        given = filtered(decoded(container, stream, probed.num_packets), stream, probed, recipe)
        indices = np.arange(encoded.num_frames)
        for one, other in zip(given, _decoded(encoded, indices), strict=True):
            for plane, (a, b) in enumerate(zip(_planes(one), _planes(other), strict=True)):
                squares += float(np.sum((a - b) ** 2))
                num_samples += a.size
                if plane == 0:
                    ssim.append(_ssim(a, b))
    return 10 * np.log10(255**2 / max(squares / num_samples, 1e-9)), mean(ssim)


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    height, width = frame.height, frame.width
    flat = frame.to_ndarray()[: height * 3 // 2].reshape(-1).astype(np.float32)
    ends = [height * width, height * width * 5 // 4]
    y, u, v = np.split(flat, ends)
    half = (height // 2, width // 2)
    return [y.reshape(height, width), u.reshape(half), v.reshape(half)]


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean structural similarity (Wang et al., 2004) over 8x8 blocks side by side."""

    def blocks(image: np.ndarray) -> np.ndarray:
        height, width = (side // 8 * 8 for side in image.shape)
        tiles = image[:height, :width].reshape(height // 8, 8, width // 8, 8)
        return tiles.transpose(0, 2, 1, 3).reshape(-1, 64)

    a, b = blocks(one), blocks(other)
    mean_a, mean_b = a.mean(1), b.mean(1)
    covariance = (a * b).mean(1) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a**2 + mean_b**2 + c1) * (a.var(1) + b.var(1) + c2)
    return float((numerator / denominator).mean())


def _decoded(encoded: Encoded, indices: np.ndarray) -> list[VideoFrame]:
    size = (encoded.height, encoded.width)
    return decoded_frames(encoded.data, indices, encoded.num_frames, size)


def _pyav(encoded: Encoded, start: int, length: int) -> object:
    indices = np.arange(start, start + length)
    return _decoded(encoded, indices)


def _torchcodec() -> dict[str, Decode]:
    try:
        decoder_of = torchcodec_decoder()
    except ImportError as error:
        print(f"no torchcodec: {error}", file=sys.stderr)
        return {}

    def decode(encoded: Encoded, start: int, length: int) -> object:
        decoder = decoder_of(encoded.data, num_ffmpeg_threads=1, seek_mode="approximate")
        return decoder.get_frames_in_range(start, start + length)

    return {"torchcodec": decode}


def _dali() -> dict[str, Decode]:
    try:
        from nvidia import dali
    except ImportError:
        print("no DALI: pip install nvidia-dali-cuda130", file=sys.stderr)
        return {}
    pipelines: dict[int, object] = {}
    wanted: dict[str, np.ndarray] = {}

    def build(length: int) -> object:
        @dali.pipeline_def(
            batch_size=1,
            num_threads=1,
            device_id=None,
            prefetch_queue_depth=1,
            exec_async=False,
            exec_pipelined=False,
        )
        def pipeline():  # type: ignore[no-untyped-def]
            data = dali.fn.external_source(
                source=lambda: [wanted["data"]], dtype=dali.types.UINT8, ndim=1
            )
            start = dali.fn.external_source(
                source=lambda: [wanted["start"]], dtype=dali.types.INT32, ndim=0
            )
            return dali.fn.decoders.video(
                data, device="cpu", start_frame=start, sequence_length=length
            )

        built = pipeline()
        built.build()
        return built

    def decode(encoded: Encoded, start: int, length: int) -> object:
        wanted["data"] = np.frombuffer(encoded.data, np.uint8)
        wanted["start"] = np.array(start, np.int32)
        if length not in pipelines:
            pipelines[length] = build(length)
        return pipelines[length].run()  # type: ignore[attr-defined]

    return {"DALI (CPU)": decode}


def _table(tallies: list[Tally], decoders: list[str]) -> str:
    titles = ["recipe", "GOP", "short side", "kB/video", "PSNR dB", "SSIM"]
    titles += [f"{name} {length}" for name in decoders for length in _WINDOWS]
    rows = []
    for (name, recipe), tally in zip(_ROWS, tallies, strict=True):
        copied = recipe.codec == "copy"
        cells = [
            name,
            "own" if copied else str(recipe.gop or 1),
            "own" if copied else f"≤ {recipe.short_side_px}",
            f"{mean(tally.num_bytes) / 1000:.0f}",
            "-" if copied else f"{mean(tally.psnr):.1f}",
            "-" if copied else f"{mean(tally.ssim):.4f}",
        ]
        for decoder in decoders:
            for length in _WINDOWS:
                times = tally.ms.get((decoder, length))
                cells.append(f"{median(times):.1f}" if times else "-")
        rows.append(cells)
    return "\n".join(table_lines(titles, rows))


if __name__ == "__main__":
    run_command(main)
