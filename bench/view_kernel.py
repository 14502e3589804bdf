"""What the Triton kernel of the views takes, as far as this shows without a GPU.

It compiles the kernel for several GPUs and reads registers, spills and shared memory from `ptxas`.
It counts the bytes that the kernel and DALI's operators move for a view, and the memory of a
sample. With --shards it compares the kernel's views, made in Triton's interpreter, with those of
the oracle, which takes minutes.

    python -m bench.view_kernel [--shards DIR] [--videos 2] [--json bench/results/view_kernel.json]
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bench.arguments import count, new_file, run_command, write_report
from loaders import DaliLayout, DaliViews, ViewSpec, open_loader
from loaders.engines.dali.memory import sample_memory
from loaders.engines.dali.view_kernel import GPU_TILE, NUM_WARPS, compiled
from loaders.plan import stage_views
from loaders.plan.draw import draw_plan

FigureRow = dict[str, Any]

TARGETS = {80: "A100", 89: "RTX 4090", 90: "H100"}  # compute capability x 10
TYPES = {"float32": "*fp32", "float16": "*fp16", "uint8": "*u8"}
_WARP = 32
_HEIGHT, _WIDTH = 240, 320  # of the pictures that are counted
_KERNEL = DaliLayout(num_pipelines=1, depth=1, views=DaliViews.KERNEL)
STAGES = {
    "pretrain 112": stage_views.pretrain(),
    "pretrain 224": stage_views.pretrain(size_px=224),
    "student 224": stage_views.finetune(),
}
# Views of one or two frames, because the interpreter takes a third of a second for a frame.
VIEWS = {
    "pretrain": stage_views.pretrain(num_frames=1),
    "finetune": stage_views.finetune(num_frames=2),
    "student_pair": stage_views.weak_strong(num_frames=2),
    "similarity": stage_views.similarity(num_frames=1),
    "eval": stage_views.evaluation(num_frames=1, num_clips=2),
    "eval 3 crops": stage_views.evaluation(num_frames=1, num_clips=1, num_crops=3),
}


def compiled_variant(capability: int, dtype: str) -> FigureRow:
    """Registers of a thread, and bytes of spills and of shared memory, of one variant."""
    signature = {"sources": "*i64", "places": "*i32", "numbers": "*fp32", "store": "*fp32"}
    signature |= {"out": TYPES[dtype]}
    signature |= dict.fromkeys(
        ("first_view", "num_views", "num_frames", "size", "num_erase"), "i32"
    )
    signature |= dict.fromkeys(("TILE_Y", "TILE_X"), "constexpr")
    tile = dict(zip(("TILE_Y", "TILE_X"), GPU_TILE, strict=True))
    kernel = triton.compile(
        ASTSource(fn=compiled(False), signature=signature, constexprs=tile),
        target=GPUTarget("cuda", capability, _WARP),
        options={"num_warps": NUM_WARPS},
    )
    report = _assembler_report(kernel.asm["ptx"])
    return {
        "gpu": f"sm_{capability}",
        "dtype": dtype,
        "registers": int(_number(r"Used (\d+) registers", report)),
        "spill_bytes": sum(map(int, re.findall(r"(\d+) bytes spill", report))),
        "stack_bytes": int(_number(r"(\d+) bytes stack frame", report)),
        "shared_bytes": kernel.metadata.shared,
    }


def _assembler_report(ptx: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        target = _number(r"\.target (sm_\w+)", ptx)
        command = [triton.knobs.nvidia.ptxas.path, "-v", f"--gpu-name={target}", str(source)]
        done = subprocess.run(
            [*command, "-o", f"{folder}/out"], capture_output=True, text=True, check=True
        )
    return done.stderr


def _number(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"nothing like {pattern!r} in {text!r}")
    return found[1]


def moved_bytes(spec: ViewSpec, dtype: str, views: DaliViews) -> float:
    """Bytes that are read and written for a view, on average over its crops.

    An operator reads its input and writes its output once. The kernel reads each pixel of the crop
    once from memory; later reads come from the caches.
    """
    rows = np.arange(64)
    plan = draw_plan(
        spec,
        rows=rows,
        epochs=0 * rows,
        num_frames=np.full(len(rows), 300),
        heights=np.full(len(rows), _HEIGHT),
        widths=np.full(len(rows), _WIDTH),
        seed=0,
    )
    height, width = plan.crop[..., 2].astype(float), plan.crop[..., 3].astype(float)
    crop, size = float((height * width).mean()), spec.size_px
    view, done = 4 * size**2, np.dtype(dtype).itemsize * size**2
    moved = crop + done
    if views == DaliViews.OPERATORS:
        augment = spec.augments[0]
        between = 4 * float(np.minimum(height, width).mean()) * size  # of the two passes of resize
        num_steps = 2 + bool(augment.gamma_p) + bool(augment.num_erase) + (dtype == "uint8")
        moved = 2 * _HEIGHT * _WIDTH + 2 * crop  # frames, crop
        moved += crop + 2 * between + view  # resize
        moved += 2 * view * num_steps  # colour, clip, gamma, erase, x 255
        moved += view + done if dtype != "float32" else 0  # cast
        moved += 2 * done  # stack
    return moved * 3 * spec.num_frames


def parity(
    shards: Path, spec: ViewSpec, dtype: str, num_videos: int, layout: DaliLayout = _KERNEL
) -> FigureRow:
    """The worst view of the first videos, against the oracle."""
    options: dict[str, Any] = {"device": "cpu", "batch_size": num_videos, "shuffle": False}
    ours, oracle = (
        open_loader(shards, spec, **chosen, **options)
        for chosen in (
            {"engine": "dali", "layout": layout, "dtype": dtype},
            {"engine": "reference"},
        )
    )
    means, psnrs, pixels = [], [], []
    with ours, oracle:
        one, other = next(ours.batches(0)).views, next(oracle.batches(0)).views
    for name, expected in other.items():
        error = (one[name].double() / (255 if dtype == "uint8" else 1) - expected).flatten(-4)
        means.append(float(error.abs().mean(-1).max()))
        psnrs.append(float(-10 * error.square().mean(-1).max().clamp_min(1e-12).log10()))
        pixels.append(float(error.abs().max()))
    return {
        "dtype": dtype,
        "mean_difference_of_255": max(means) * 255,
        "psnr_db": min(psnrs),
        "worst_pixel_of_255": max(pixels) * 255,
    }


def figures(shards: Path | None, num_videos: int) -> dict[str, Any]:
    """All tables."""
    px = _HEIGHT * _WIDTH
    kinds = [(stage, dtype, views) for stage in STAGES for dtype in TYPES for views in DaliViews]
    return {
        "triton": triton.__version__,
        "torch": torch.__version__,
        "compiled": [compiled_variant(target, dtype) for target in TARGETS for dtype in TYPES],
        "moved_mb_per_view": [
            {"stage": s, "dtype": d, "views": v, "mb": moved_bytes(STAGES[s], d, v) / 1e6}
            for s, d, v in kinds
        ],
        "mb_per_sample": [
            {"stage": s, "dtype": d, "views": v}
            | {k: n / 1e6 for k, n in vars(sample_memory(STAGES[s], d, v, px)).items()}
            for s, d, v in kinds
        ],
        "parity": [
            {"views": name, **parity(shards, spec, dtype, num_videos)}
            for name, spec in VIEWS.items()
            for dtype in TYPES
            if shards is not None
        ],
    }


def parity_table(rows: list[FigureRow]) -> str:
    """The table of the docs, in Markdown: mean difference, PSNR, worst pixel by views and type."""
    shown: dict[str, list[str]] = {}
    for row in rows:
        mean, worst = row["mean_difference_of_255"], row["worst_pixel_of_255"]
        told = f"{mean:.4f}, {row['psnr_db']:.1f} dB, {worst:.4f}"
        shown.setdefault(row["views"], []).append(told)
    lines = [["views", *TYPES], *([name, *cells] for name, cells in shown.items())]
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, f"|{'---|' * (1 + len(TYPES))}", *body])


def main() -> None:
    """Prints all figures as JSON and the table of parity, and writes the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--videos", type=count, default=2)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    found = figures(options.shards, options.videos)
    text = json.dumps(found, indent=1)
    print(text)
    if options.shards is not None:
        print(parity_table(found["parity"]))
    write_report(options.json, found)


if __name__ == "__main__":
    run_command(main)
