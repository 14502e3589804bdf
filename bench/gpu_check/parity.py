"""Step `parity`: DALI's views against both oracles, the worst of every preset and recipe.

On a GPU, DALI places chroma in the centre of four pixels, FFmpeg at the left. So the views must
agree with the oracle that places chroma as this device does. The difference to the other oracle
says how far `dali` and `fused` are apart.
"""

from collections.abc import Iterator
from functools import partial

import torch

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.task import RECIPES, CheckCell, Task
from loaders import ViewSpec, open_loader
from loaders.engines.reference import centred_engine
from loaders.plan import stage_views
from loaders.producer import LocalProducer
from shards.cpus import num_cpus

# A GPU's conversion to RGB differs from FFmpeg's by some levels.
MAX_MEAN_DIFFERENCE, MIN_PSNR_DB = 1.5 / 255, 38.0
RenderedViews = dict[str, torch.Tensor]


def cells(task: Task) -> Iterator[CheckCell]:
    """The default recipe with every preset; then the other recipes."""
    for recipe in RECIPES:
        for name, spec in _presets(48 if task.is_dry else 112).items():
            yield CheckCell(
                name=f"{recipe} {name}",
                run=partial(_compare, task, recipe, spec),
                is_long=recipe != RECIPES[0] and name != "student",
            )


def _presets(size_px: int) -> dict[str, ViewSpec]:
    return {
        "pretrain": stage_views.pretrain(size_px=size_px),
        "student": stage_views.finetune(size_px=size_px),
        "student_pair": stage_views.weak_strong(size_px=size_px),
        "similarity": stage_views.similarity(size_px=size_px),
        "eval": stage_views.evaluation(size_px=size_px, num_clips=3),
        "eval 3 crops": stage_views.evaluation(size_px=size_px, num_clips=1, num_crops=3),
    }


def _compare(task: Task, recipe: str, spec: ViewSpec) -> CellFigures:
    ours = _views(task, recipe, spec, "dali")
    left = _difference(ours, _views(task, recipe, spec, "reference"))
    if task.is_dry:
        return left
    centred = _difference(ours, _views(task, recipe, spec, "reference", is_centred=True))
    return {**centred, "to_left_sited": {k: v for k, v in left.items() if k != "passed"}}


def _views(
    task: Task, recipe: str, spec: ViewSpec, engine: str, *, is_centred: bool = False
) -> RenderedViews:
    batch_size = 1 if task.is_dry else 4
    device = str(task.device) if engine == "dali" else "cpu"
    loader = open_loader(
        task.shards(recipe), spec, engine=engine, device=device, batch_size=batch_size
    )
    if is_centred:
        assert isinstance(loader.producer, LocalProducer)
        loader.producer.engine = centred_engine(spec, batch_size=batch_size, num_workers=num_cpus())
    with loader:
        return next(loader.batches(0)).views


def _difference(ours: RenderedViews, oracle: RenderedViews) -> CellFigures:
    means, psnrs = [], []
    for name in oracle:
        error = (ours[name].double().cpu() - oracle[name].double()).flatten(-4)
        means.append(float(error.abs().mean(-1).max()))
        psnrs.append(float(-10 * error.square().mean(-1).max().clamp_min(1e-12).log10()))
    return {
        "mean_difference_of_255": round(max(means) * 255, 3),
        "psnr_db": round(min(psnrs), 1),
        "passed": max(means) <= MAX_MEAN_DIFFERENCE and min(psnrs) >= MIN_PSNR_DB,
    }
