"""Stores a sample with each candidate, then measures bytes, PSNR and the cost of the views.

The videos go through `shards.ingest` and the CPU engine of the loader, as in training. The
candidates share one engine, because the buffers of many would not fit into memory.
"""

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from statistics import median

import numpy as np

from loaders import open_loader
from loaders.engines.engine import Engine
from loaders.plan.views import ViewSpec
from shards.decode.packet_decoder import DecodeError
from shards.encode.recipe import MAX_SHORT_SIDE_PX, Recipe
from shards.errors import InputError
from shards.files.store import open_store
from shards.format.dataset_json import read_dataset_json
from shards.format.manifest import read_manifest
from shards.format.skipped_jsonl import Skipped, read_skipped
from shards.ingestion.ingest import ingest
from shards.ingestion.ingest_report import IngestReport
from shards.ingestion.job import NothingUsableError
from shards.progress import Progress
from shards.reader import ShardError, ShardReader
from shards.sources.source import Dataset
from tb.advice.candidates import candidates, name_of, options_of, reference_recipe
from tb.advice.fidelity import Served, picture_shapes, psnr_db
from tb.advice.sample import VideoSample

_BATCH_SIZE = 4
_NUM_ROUNDS = 5
_MIN_TRIED = 2
"""So many candidates are tried even if no time is left: the default of `tb shard`, and the next."""
_STORED, _COMPARED = 0.6, 0.7
"""Shares of the time after which all videos should be stored, and compared."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A candidate, and what it costs.

    Attributes:
        recipe: How it stores videos.
        bytes_per_video: The size of the sample's shards / the number of its videos.
        set_bytes: The size of all shards, if the whole set shrinks as the sample does.
        videos_per_s: Videos whose views are made in a second, by all workers together.
        cpu_ms: Processor time for the views of a video, milliseconds.
        psnr_db: PSNR of its views against those of the source, see `tb.advice.fidelity`; infinite
            for "copy".
    """

    recipe: Recipe
    bytes_per_video: float
    set_bytes: int
    videos_per_s: float
    cpu_ms: float
    psnr_db: float

    @property
    def name(self) -> str:
        """Its name, different for each candidate."""
        return name_of(self.recipe)

    @property
    def options(self) -> list[str]:
        """The options of `tb shard` that store videos like this."""
        return options_of(self.recipe)


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What `measure` found.

    Attributes:
        measured: The candidates, likeliest first.
        num_videos: How many videos were tried.
        skipped: Sampled videos that cannot be used.
        left_out: Name of a candidate that was not measured -> why.
    """

    measured: list[Measured]
    num_videos: int
    skipped: list[Skipped]
    left_out: dict[str, str]


def measure(
    sample: VideoSample,
    spec: ViewSpec,
    folder: Path,
    *,
    minutes: float,
    workers: int | None,
    progress: Progress,
) -> Measurements:
    """Tries the candidates on the sample.

    Args:
        sample: The videos.
        spec: The views.
        folder: An empty folder for the shards.
        minutes: Candidates for which this is too short are left out, the least likely first.
        workers: Processes that encode, and threads that make views. None: one for each CPU.
        progress: Called with (percent done, 100, what is being done).

    Raises:
        InputError: The views are too large, or no sampled video can be used.
    """
    late_s = time.monotonic() + 60 * minutes * _STORED
    with ExitStack() as opened:
        trial = _Trial(
            sample=sample,
            spec=spec,
            folder=folder,
            workers=workers,
            progress=progress,
            opened=opened,
        )
        reference, skipped = trial.store_reference()
        usable = sample.without({entry.key for entry in skipped})
        stored, left_out = trial.store_candidates(usable, reference, late_s)
        psnrs_db, unreadable = trial.compare(usable, reference, stored)
        measured = trial.timed(reference.loader.engine, stored, psnrs_db)
    left_out |= unreadable
    if not measured:
        name, reason = next(iter(left_out.items()))
        raise InputError(
            f"{sample.dataset.root}: no recipe can be tried, e.g. {name}: {reason}; check that the"
            " videos do not change in the meantime"
        )
    return Measurements(
        measured=measured,
        num_videos=len(usable.sources),
        skipped=skipped,
        left_out=left_out,
    )


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """The steps of `measure`, with what all of them need.

    Attributes:
        sample: The videos.
        spec: The views.
        folder: Where shards are stored, a folder for each candidate.
        workers: Processes that encode, and threads that make views; None: one for each CPU.
        progress: Called with (percent done, 100, what is being done).
        opened: Closes the loaders and readers.
    """

    sample: VideoSample
    spec: ViewSpec
    folder: Path
    workers: int | None
    progress: Progress
    opened: ExitStack

    @cached_property
    def _num_recipes(self) -> int:
        """How many recipes are stored at most: the reference and all candidates."""
        return 1 + len(candidates(self.spec, MAX_SHORT_SIDE_PX))

    def store_reference(self) -> tuple[Served, list[Skipped]]:
        """The videos as the reference stores them, and those that cannot be used."""
        recipe, out = reference_recipe(self.spec), self.folder / "reference"
        try:
            self._ingest(self.sample.dataset, recipe, out, 0, "the reference")
        except InputError:
            skipped = read_skipped(open_store(out)) if out.is_dir() else []
            if not skipped:
                raise
            raise InputError(
                f"{self.sample.dataset.root}: none of {len(skipped)} sampled videos can be used,"
                f" e.g. {skipped[0].source}: {skipped[0].reason}; try more of them (--videos)"
            ) from None
        return self._serve(out, recipe), read_skipped(open_store(out))

    def store_candidates(
        self, usable: Dataset, reference: Served, late_s: float
    ) -> tuple[list[Served], dict[str, str]]:
        """Stores the videos with each candidate until `late_s`; says which ones it left out."""
        manifest = reference.loader.manifest
        largest_px = int(np.minimum(manifest.heights, manifest.widths).max())
        recipes = candidates(self.spec, largest_px)
        stored: list[Served] = []
        left_out = {}
        for index, recipe in enumerate(recipes):
            name, out = name_of(recipe), self.folder / str(index)
            if len(stored) >= _MIN_TRIED and time.monotonic() > late_s:
                left_out[name] = "no time left: give more --minutes, or fewer --videos"
                continue
            try:
                report = self._ingest(usable, recipe, out, index + 1, name)
            except NothingUsableError:
                left_out[name] = "it cannot store any of the videos"
                continue
            if report.num_skipped:
                left_out[name] = f"it cannot store {report.num_skipped} of the videos"
            else:
                stored.append(self._serve(out, recipe))
        return stored, left_out

    def compare(
        self, usable: Dataset, reference: Served, stored: list[Served]
    ) -> tuple[dict[Recipe, float], dict[str, str]]:
        """PSNR of each candidate, dB, and which ones cannot be rendered. It warms everything up."""
        shapes = picture_shapes(usable.sources)
        psnrs_db, unreadable = {}, {}
        for index, served in enumerate(stored):
            self._show(_STORED, _COMPARED, index / len(stored), f"comparing {served.name}")
            try:
                if served.recipe.codec_type.keeps_files:
                    _render(reference.loader.engine, served, epoch=0)
                    psnrs_db[served.recipe] = inf
                else:
                    psnrs_db[served.recipe] = psnr_db(served, reference, shapes)
            except (DecodeError, ShardError) as error:
                unreadable[served.name] = f"the loader cannot read it: {error}"
        return psnrs_db, unreadable

    def timed(
        self, engine: Engine, stored: list[Served], psnrs_db: dict[Recipe, float]
    ) -> list[Measured]:
        """Times the candidates that have a PSNR, in turn; the median of the rounds counts."""
        stored = [served for served in stored if served.recipe in psnrs_db]
        times: dict[Recipe, list[tuple[float, float]]] = {one.recipe: [] for one in stored}
        for number in range(_NUM_ROUNDS):
            self._show(_COMPARED, 1, number / _NUM_ROUNDS, f"round {number + 1} of {_NUM_ROUNDS}")
            for served in stored:
                times[served.recipe].append(_render(engine, served, epoch=number + 1))
        self._show(_COMPARED, 1, 1, "done")
        return [self._measured(one, times[one.recipe], psnrs_db[one.recipe]) for one in stored]

    def _measured(
        self, served: Served, times: list[tuple[float, float]], psnr_db: float
    ) -> Measured:
        manifest = served.loader.manifest
        num_bytes = sum(shard.num_bytes for shard in read_dataset_json(manifest.root).shards)
        share = self.sample.num_bytes / max(self.sample.source_bytes(), 1)
        return Measured(
            recipe=served.recipe,
            bytes_per_video=num_bytes / len(manifest),
            set_bytes=round(num_bytes * share),
            videos_per_s=len(manifest) / median(wall_s for wall_s, _ in times),
            cpu_ms=1000 * median(cpu_s for _, cpu_s in times) / len(manifest),
            psnr_db=psnr_db,
        )

    def _ingest(
        self, dataset: Dataset, recipe: Recipe, out: Path, index: int, name: str
    ) -> IngestReport:
        """Stores a data set, as number `index` of the reference and the candidates."""

        def progress(num_done: int, num_videos: int, key: str) -> None:
            done = (index + num_done / num_videos) / self._num_recipes
            self._show(0, _STORED, done, f"storing {name}")

        return ingest(dataset, out, recipe=recipe, workers=self.workers, progress=progress)

    def _serve(self, shards: Path, recipe: Recipe) -> Served:
        manifest = read_manifest(shards)
        loader = open_loader(
            manifest,
            self.spec,
            batch_size=_BATCH_SIZE,
            device="cpu",
            engine="fused",
            num_workers=self.workers,
        )
        reader = ShardReader(manifest)
        self.opened.enter_context(loader)
        self.opened.enter_context(reader)
        return Served(recipe=recipe, loader=loader, reader=reader)

    def _show(self, begin: float, end: float, done: float, note: str) -> None:
        self.progress(round(100 * (begin + (end - begin) * done)), 100, note)


def _render(engine: Engine, served: Served, epoch: int) -> tuple[float, float]:
    """Makes the views of all videos once: elapsed seconds, and seconds of processor time."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    with closing(engine.run(served.reader, served.loader.plans(epoch))) as rendered:
        for one in rendered:
            for error in one.errors.values():
                raise error
    return time.perf_counter() - began_s, time.process_time() - cpu_s
