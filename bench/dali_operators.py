"""What uint8 between DALI's operators would save, and what it would cost.

The graph keeps float32 from the resize on. The other ways here keep uint8 for as long as the
operators allow. Each is compared with the oracle on a CPU; a GPU runs the same operators. DALI says
how large the output of each operator is. The memory that is alive at a time is counted from that.

    python -m bench.dali_operators --shards DIR [--videos 12]
        [--json bench/results/dali_operators.json]
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from nvidia.dali import Pipeline, __version__, fn, types
from nvidia.dali import math as dali_math

from bench.arguments import count, new_file, run_command, write_report
from bench.view_kernel import parity
from loaders import DaliLayout, ViewSpec
from loaders.engines.dali import graph
from loaders.plan import stage_views
from loaders.plan.views import Augment

MADE = {"pretrain": stage_views.pretrain(), "student": stage_views.finetune(size_px=112)}
COUNTED = stage_views.pretrain(size_px=224)
TYPES = {"float32": types.FLOAT, "float16": types.FLOAT16, "uint8": types.UINT8}
# These are the graph's own functions. `compared` replaces them in the module.
_GRAPH_OPERATORS, _GRAPH_TYPED = graph._operators, graph._typed
_LAYOUT = DaliLayout(num_pipelines=1, depth=1, views="operators")


@dataclass(frozen=True, kw_only=True)
class Way:
    """Where the operators of a view put out uint8.

    Attributes:
        name: Its name in the table.
        before_colour: The resize puts out uint8.
        behind_colour: The colour operator puts out uint8, which also clips.
        early_type: The views get their final type after gamma, before rectangles are erased.
    """

    name: str
    before_colour: bool = False
    behind_colour: bool = False
    early_type: bool = False


WAYS = (
    Way(name="float32, as in the graph"),
    Way(name="uint8 between resize and colours", before_colour=True),
    Way(name="uint8 also behind the colours", before_colour=True, behind_colour=True),
    Way(
        name="and the views' type behind gamma",
        before_colour=True,
        behind_colour=True,
        early_type=True,
    ),
)


def operators(
    way: Way, dtype: str, spec: ViewSpec, augment: Augment, v: int, on_gpu: bool, inputs: Any
) -> Iterator[tuple[str, Any]]:
    """The operators of view `v` from the resize on, as in `loaders.engines.dali.graph`."""
    clip = fn.resize(
        dict(islice(_GRAPH_OPERATORS(spec, augment, v, on_gpu, inputs), 2))["crop"],
        roi_start=inputs["region"][v, 0],
        roi_end=inputs["region"][v, 1],
        size=[spec.size_px, spec.size_px],
        interp_type=types.INTERP_LINEAR,
        antialias=True,
        dtype=types.UINT8 if way.before_colour else types.FLOAT,
    )
    yield "resize", clip
    color, gamma = inputs["color"][v], inputs["gamma"][v]
    if way.behind_colour:
        clip = fn.coord_transform(clip, MT=color * 255.0, dtype=types.UINT8)
        yield "colour", clip
        clip = clip**gamma
        yield "gamma", clip
        # Gamma comes before the division by 255, so the divisor is 255**gamma of each video.
        target, white = (TYPES[dtype], 255.0) if way.early_type else (types.FLOAT, 1.0)
        white = white if dtype == "uint8" else 1.0
        std = 255.0**gamma / white
        clip = fn.crop_mirror_normalize(clip, std=std, dtype=target, output_layout="FHWC")
        yield "type" if way.early_type else "scale", clip
    else:
        clip = fn.coord_transform(clip, MT=color)
        yield "colour", clip
        clip = dali_math.clamp(clip, 0.0, 1.0)
        yield "clip", clip
        clip = clip**gamma
        yield "gamma", clip
    corners, extents = inputs["erase"][v, 0], inputs["erase"][v, 1]
    clip = fn.erase(clip, anchor=corners, shape=extents, axis_names="HW")
    yield "erase", clip
    if not way.early_type and dtype != "float32":
        yield "type", _GRAPH_TYPED(clip, dtype)


def operator_bytes(way: Way, dtype: str, spec: ViewSpec) -> dict[str, int]:
    """Operator -> the bytes that it puts out for one view, as DALI says."""
    names = graph._input_names(spec, False, None)
    frames = np.zeros((1, 16, 16, 3), np.uint8)
    shapes = {"place": (1, spec.num_frames), "crop": (1, 2, 2), "region": (1, 2, 2)}
    shapes |= {"color": (1, 3, 4), "gamma": (1,), "erase": (1, 2, 2)}
    numbers = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    numbers["place"] = np.zeros(shapes["place"], np.int32)
    numbers["crop"] = np.array([[[0, 0], [16, 16]]], np.int32)
    numbers["region"] = np.array([[[0, 0], [16, 16]]], np.float32)
    fed = [[numbers.get(name, frames)] for name in names]
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None)
    with pipeline:
        nodes = fn.external_source(
            source=lambda: fed,
            num_outputs=len(names),
            layout=["FHWC" if name == "data" else "" for name in names],
        )
        inputs = dict(zip(names, nodes, strict=True))
        steps = dict(operators(way, dtype, spec, spec.augments[0], 0, False, inputs))
        pipeline.set_outputs(*steps.values())
    pipeline.build()
    outputs = pipeline.run()
    return {name: np.asarray(one.at(0)).nbytes for name, one in zip(steps, outputs, strict=True)}


def counted(way: Way, dtype: str) -> dict[str, Any]:
    """MB of a sample: the most that is alive between operators, and all that they move."""
    sizes = operator_bytes(way, dtype, COUNTED)
    # Each operator runs for all views before the next operator. At the end the views are stacked.
    between = [COUNTED.num_views * size / 1e6 for size in sizes.values()]
    read_and_written = [*pairwise(between), (between[-1], between[-1])]
    return {
        "mb_alive": max(map(sum, read_and_written)),
        "mb_moved": between[0] + sum(map(sum, read_and_written)),
        "bytes_of_a_view": sizes,
    }


def compared(way: Way, shards: Path, dtype: str, num_videos: int) -> dict[str, Any]:
    """The worst view of each name against the oracle."""
    with (
        patch.object(graph, "_operators", partial(operators, way, dtype)),
        patch.object(graph, "_typed", lambda view, _: view),
    ):
        return {
            name: parity(shards, spec, dtype, num_videos, layout=_LAYOUT)
            for name, spec in MADE.items()
        }


def figures(shards: Path, num_videos: int) -> dict[str, Any]:
    """What each way costs and saves, for each type of the views."""
    return {
        "dali": __version__,
        "rows": [
            {"way": way.name, "dtype": dtype, **counted(way, dtype)}
            | {"parity": compared(way, shards, dtype, num_videos)}
            for way in WAYS
            for dtype in TYPES
        ],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The table of the docs, in Markdown: float16, which is the usual type on a GPU."""
    lines = ["| between the operators | alive, MB | read and written, MB | pretrain | student |"]
    lines += ["|---|---|---|---|---|"]
    for row in rows:
        if row["dtype"] == "float16":
            told = [
                f"{one['mean_difference_of_255']:.2f}/255, {one['psnr_db']:.1f} dB"
                for one in row["parity"].values()
            ]
            cells = [row["way"], f"{row['mb_alive']:.0f}", f"{row['mb_moved']:.0f}", *told]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table, and writes all figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--videos", type=count, default=12)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    found = figures(options.shards, options.videos)
    print(table(found["rows"]))
    write_report(options.json, found)


if __name__ == "__main__":
    run_command(main)
