"""Shards to batches of augmented clips.

Here: plans, the engines that execute them, the loader and its process.
Not here: making and checking shards (`shards`), losses, networks and training (`tb`).

All randomness lives in a *plan* (`loaders.plan`): plain NumPy arrays that say which frames, which
crop, which colour matrix, which erased rectangle. A video's plan depends on (seed, epoch, video,
clip) and on nothing else, so batches are the same for any number of workers, ranks or restarts. An
*engine* (`dali`, `fused`, `reference`) executes a plan. Engines that execute the same plan show the
same pictures. Their numbers differ a little, by as much as the tests of parity allow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loaders.batch import Batch as Batch
    from loaders.devices import usable_device as usable_device
    from loaders.engines.dali.layout import DaliLayout as DaliLayout
    from loaders.engines.dali.layout import DaliViews as DaliViews
    from loaders.engines.dali.layout import TryLayouts as TryLayouts
    from loaders.engines.engine import WorkTimes as WorkTimes
    from loaders.epoch_dataset import EpochDataset as EpochDataset
    from loaders.faults import LoaderError as LoaderError
    from loaders.faults import Skip as Skip
    from loaders.loader import Loader as Loader
    from loaders.opening import open_loader as open_loader
    from loaders.plan import stage_views as stage_views
    from loaders.plan.draw import Plan as Plan
    from loaders.plan.normalization import Normalization as Normalization
    from loaders.plan.views import Augment as Augment
    from loaders.plan.views import Start as Start
    from loaders.plan.views import ViewGroup as ViewGroup
    from loaders.plan.views import ViewSpec as ViewSpec
    from loaders.profile import Profile as Profile
    from loaders.render import Render as Render
    from loaders.subset import Part as Part
    from loaders.subset import Subset as Subset

_MODULE_OF = {
    "Augment": "loaders.plan.views",
    "Batch": "loaders.batch",
    "DaliLayout": "loaders.engines.dali.layout",
    "DaliViews": "loaders.engines.dali.layout",
    "EpochDataset": "loaders.epoch_dataset",
    "Loader": "loaders.loader",
    "LoaderError": "loaders.faults",
    "Normalization": "loaders.plan.normalization",
    "Part": "loaders.subset",
    "Plan": "loaders.plan.draw",
    "Profile": "loaders.profile",
    "Render": "loaders.render",
    "Skip": "loaders.faults",
    "Start": "loaders.plan.views",
    "Subset": "loaders.subset",
    "TryLayouts": "loaders.engines.dali.layout",
    "ViewGroup": "loaders.plan.views",
    "ViewSpec": "loaders.plan.views",
    "WorkTimes": "loaders.engines.engine",
    "open_loader": "loaders.opening",
    "usable_device": "loaders.devices",
}
__all__ = [
    "Augment",
    "Batch",
    "DaliLayout",
    "DaliViews",
    "EpochDataset",
    "Loader",
    "LoaderError",
    "Normalization",
    "Part",
    "Plan",
    "Profile",
    "Render",
    "Skip",
    "Start",
    "Subset",
    "TryLayouts",
    "ViewGroup",
    "ViewSpec",
    "WorkTimes",
    "open_loader",
    "stage_views",
    "usable_device",
]


if not TYPE_CHECKING:
    # Torch and PyAV are imported only when a name that needs them is used.
    def __getattr__(name: str) -> object:
        if name == "stage_views":  # a module of functions
            return import_module("loaders.plan.stage_views")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
