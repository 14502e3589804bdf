"""Shards to batches of augmented clips. Knows nothing of losses or networks.

The mental model, in three sentences. All randomness lives in a *plan* (`loaders.plan`): plain NumPy
arrays that say which frames, which crop, which colour matrix, which erased rectangle. A video's
plan depends on (seed, epoch, video) and on nothing else, so batches are the same for any number of
workers, ranks or restarts. An *engine* (`dali`, `fused`, `reference`) executes a plan; two engines
that execute the same plan give the same pixels up to rounding.
"""

from typing import Any

__all__ = [
    "Batch",
    "EpochDataset",
    "Loader",
    "LoaderError",
    "Subset",
    "Tuning",
    "ViewSpec",
    "open_loader",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import loaders` stays instant: the real modules import torch and PyAV.
    if name in {"Batch", "Loader", "LoaderError", "open_loader"}:
        from loaders import loader as module
    elif name == "Subset":
        from loaders import subset as module  # type: ignore[no-redef]
    elif name == "EpochDataset":
        from loaders import epoch_dataset as module  # type: ignore[no-redef]
    elif name == "Tuning":
        from loaders.engines.dali import tuning as module  # type: ignore[no-redef]
    elif name == "ViewSpec":
        from loaders.plan import views as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module 'loaders' has no attribute {name!r}")
    return getattr(module, name)
