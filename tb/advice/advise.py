"""`advise`: makes the `Advice` for a data set, and the files that hold it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from loaders.plan.stage_views import view_spec
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.files.lock import BusyError, locked
from shards.progress import Progress
from shards.sources.source import Dataset
from tb.advice.advice import Advice, Limits
from tb.advice.candidates import reference_recipe
from tb.advice.chart import chart_png
from tb.advice.measure import measure
from tb.advice.sample import draw_sample
from tb.named_paths import make_named_folder, write_named_file

ADVICE_JSON, ADVICE_PNG = "advice.json", "advice.png"
_TRIAL_PREFIX, _LOCK_NAME = "trial-", ".tb-advise.lock"


def advise(
    dataset: Dataset,
    out: Path,
    views: str | ViewSpec,
    *,
    size_px: int | None,
    num_videos: int,
    limits: Limits,
    minutes: float,
    workers: int | None,
    progress: Progress,
) -> Advice:
    """Measures candidates on a sample; OUT/advice.json and OUT/advice.png hold the result.

    The sample's shards lie in a folder in `out`. It is removed at the end, also after an error or
    Ctrl-C. If a run is killed, the next run removes its folder.

    Args:
        dataset: The videos.
        out: The folder for the result, made if missing.
        views: The views of a stage.
        size_px: Height and width of a view. None: the size that the views have.
        num_videos: How many videos the sample has; fewer if the set has fewer.
        limits: What the choice must keep to.
        minutes: About how long it may take.
        workers: Processes that encode, and threads that make views. None: one for each CPU.
        progress: Called with (percent done, 100, what is being done).

    Raises:
        InputError: An argument is out of range, or no sampled video can be used.
    """
    spec = view_spec(views, size_px, normalization="none")  # PSNR is for RGB
    reference_recipe(spec)  # refuses views that are too large before anything is written
    if not 0 < minutes < float("inf"):
        raise InputError(f"minutes is {minutes:g} (--minutes): give a number above 0")
    sample = draw_sample(dataset, num_videos)
    make_named_folder(out, "out")
    with _trial_folder(out) as folder:
        found = measure(sample, spec, folder, minutes=minutes, workers=workers, progress=progress)
    advice = Advice(
        views=views if isinstance(views, str) else views.name,
        size_px=spec.size_px,
        num_videos=sample.num_videos,
        source_bytes=sample.num_bytes,
        found=found,
        limits=limits,
    )
    write_named_file(out / ADVICE_JSON, advice.to_json().encode(), "out")
    write_named_file(out / ADVICE_PNG, chart_png(advice), "out")
    return advice


@contextmanager
def _trial_folder(out: Path) -> Iterator[Path]:
    """Yields a new folder in `out`, and removes the folders of runs that were killed."""
    for lock in out.glob(f"{_TRIAL_PREFIX}*/{_LOCK_NAME}"):
        with suppress(BusyError), locked(lock, f"{lock}: its run goes on"):
            shutil.rmtree(lock.parent, ignore_errors=True)
    try:
        folder = TemporaryDirectory(dir=out, prefix=_TRIAL_PREFIX)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}; choose another out (--out)") from error
    with folder as name, locked(Path(name) / _LOCK_NAME, f"{name}: locked"):
        yield Path(name)
