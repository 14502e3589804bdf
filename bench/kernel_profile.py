"""Where the time of the compiled CPU kernel goes: what it takes without one of its stages.

    python -m bench.kernel_profile [--views student pretrain] [--sizes 112 224] [--dtype float16]
        [--videos 8] [--rounds 9] [--json bench/results/kernel_profile.json]

For each stage the kernel is compiled once more, with that stage left out. The processor time that
this saves is the stage's share. Stages overlap in a processor, so the shares do not add up to 1.
The last figure is the kernel without all of them: erasing and loops. Its time does not depend on
the pixels, so the pictures are noise, in the size of JHMDB's. 16 pictures take turns, because a
decoder reuses the memory of 16 pictures. Rounds of all variants are interleaved.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from statistics import median
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numba
import numpy as np
from av.video.frame import VideoFrame

from bench.arguments import count, new_file, run_command, write_report
from loaders.engines.buffers import BufferPool
from loaders.engines.choice import DTYPES
from loaders.engines.fused import kernel, render_video, simd
from loaders.plan.draw import Plan, draw_plan
from loaders.plan.stage_views import NAMED_VIEWS, view_spec
from loaders.plan.views import ViewSpec
from tb.version import version_text

_HEIGHT, _WIDTH, _NUM_FRAMES = 240, 320, 100
_NUM_PICTURES = 16
_WHOLE, _NONE = "whole", "rest"

_njit: Any = numba.njit
_jit: Any = _njit(nogil=True, error_model="numpy")
Kernel = Callable[..., None]


@_jit
def _nothing(*_):  # type: ignore[no-untyped-def]
    return


@_jit
def _stream_rows_as_they_are(source, out, stride, sample):  # type: ignore[no-untyped-def]
    """The stores of `stream_transpose` without its transposition."""
    for row in range(simd.LANES):
        simd.stream_line(source + row * simd.LINE, out + row * stride)


@_jit
def _transpose_in_place(source, out, stride, sample):  # type: ignore[no-untyped-def]
    """The transposition of `stream_transpose` without its stores to `out`."""
    simd.transpose(source, source, simd.LINE, sample)


def _uncached(*functions: Any, cache: bool = False, **options: Any) -> Any:
    return _njit(*functions, **options)


# Each stage, and what takes the place of the vector code that it consists of.
STAGES = {
    "widening of source rows": {"widen_row": _nothing},
    "vertical resampling": {"mix_rows": _nothing},
    "horizontal resampling and colour": {"color_columns": _nothing},
    "gamma's table": {"_look_up": _nothing},
    "layout": {"transpose": _nothing, "stream_transpose": _stream_rows_as_they_are},
    "stores": {"stream_line": _nothing, "stream_transpose": _transpose_in_place},
}
_ALL = {name: _nothing for changes in STAGES.values() for name in changes}


def kernel_with(changes: dict[str, Kernel]) -> Kernel:
    """`render_views`, compiled with other functions in place of some of its vector code."""
    spec = importlib.util.spec_from_file_location("changed_kernel", kernel.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy: ModuleType = importlib.util.module_from_spec(spec)
    # Numba's cache cannot tell the variants apart, and their code would end up in the loader's.
    with patch.object(numba, "njit", _uncached):
        spec.loader.exec_module(copy)
    for name, function in changes.items():
        if not hasattr(copy, name):
            raise AttributeError(f"the kernel has no {name}: change the stages of this bench")
        setattr(copy, name, function)
    changed: Kernel = copy.render_views
    return changed


def profile(
    variants: dict[str, Kernel], spec: ViewSpec, dtype: str, num_videos: int, num_rounds: int
) -> dict[str, Any]:
    """The kernel's processor time for a video, and the share of each stage in it.

    Args:
        variants: The whole kernel, the kernel without each stage, and without all of them.
        spec: The views.
        dtype: NumPy's name of their type.
        num_videos: Videos of a round, each with a plan of its own.
        num_rounds: Rounds of the medians. One more comes first and does not count.
    """
    plan = _plan(spec, num_videos)
    size = spec.size_px
    pool = BufferPool(len(spec.groups))
    shapes = [(len(group.offsets), spec.num_frames, size, size, 3) for group in spec.groups]
    out = pool.take(shapes, dtype)
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(1 + num_rounds):
        for name, variant in variants.items():
            found[name].append(_cpu_s(variant, plan, out) / num_videos)
    seconds = {name: median(rounds[1:]) for name, rounds in found.items()}
    whole_s = seconds[_WHOLE]
    return {
        "size_px": size,
        "ms_per_video": whole_s * 1e3,
        "shares": {name: 1 - seconds[name] / whole_s for name in STAGES},
        _NONE: seconds[_NONE] / whole_s,
    }


def _plan(spec: ViewSpec, num_videos: int) -> Plan:
    rows = np.arange(num_videos)
    return draw_plan(
        spec,
        rows=rows,
        epochs=0 * rows,
        num_frames=np.full(num_videos, _NUM_FRAMES),
        heights=np.full(num_videos, _HEIGHT),
        widths=np.full(num_videos, _WIDTH),
        seed=0,
    )


def _cpu_s(variant: Kernel, plan: Plan, out: list[np.ndarray]) -> float:
    """Seconds that this thread spends in the kernel for all videos of a plan."""
    spent_s, pictures = 0.0, _noise()

    def timed(*arguments: Any) -> None:
        nonlocal spent_s
        began_s = time.thread_time()
        variant(*arguments)
        spent_s += time.thread_time() - began_s

    with patch.object(kernel, "render_views", timed):
        for b in range(len(plan.rows)):
            render_video.render_video(islice(cycle(pictures), _NUM_FRAMES), plan, b, out)
    return spent_s


def _noise() -> list[VideoFrame]:
    rng = np.random.default_rng(0)
    shape = (_HEIGHT * 3 // 2, _WIDTH)
    return [
        VideoFrame.from_ndarray(rng.integers(0, 256, shape, np.uint8), format="yuv420p")
        for _ in range(_NUM_PICTURES)
    ]


def _table(profiles: list[dict[str, Any]]) -> str:
    """The profiles in Markdown, as docs/results/loading.md has them."""
    heads = [f"`{one['views']}` {one['size_px']} px" for one in profiles]
    times = [f"{one['ms_per_video']:.2f} ms" for one in profiles]
    lines = [["", *heads], ["---"] * (1 + len(heads)), ["the kernel, a video", *times]]
    for name in STAGES:
        lines.append([name, *(f"{one['shares'][name]:.0%}" for one in profiles)])
    lines.append(["what is left without these", *(f"{one[_NONE]:.0%}" for one in profiles)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and writes the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--views", nargs="+", choices=NAMED_VIEWS, default=["student", "pretrain"])
    parser.add_argument("--sizes", type=count, nargs="+", default=[112, 224], help="in pixels")
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--videos", type=count, default=8, help="in a round")
    parser.add_argument("--rounds", type=count, default=9)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args(arguments)
    variants = {_WHOLE: kernel_with({}), _NONE: kernel_with(_ALL)}
    variants |= {name: kernel_with(changes) for name, changes in STAGES.items()}
    profiles = [
        {"views": name}
        | profile(variants, view_spec(name, size), options.dtype, options.videos, options.rounds)
        for name in options.views
        for size in options.sizes
    ]
    print(_table(profiles))
    settings = {"dtype": options.dtype, "videos": options.videos, "rounds": options.rounds}
    settings |= {"height": _HEIGHT, "width": _WIDTH, "timebalance": version_text()}
    write_report(options.json, {"settings": settings, "profiles": profiles})


if __name__ == "__main__":
    run_command(main)
