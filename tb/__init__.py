"""TimeBalance: the method, the training and the command line.

This is the front door: what the command line does, as functions (`tb.api`). Everything is imported
when it is first used, so `import tb` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shards.errors import InputError as InputError
    from shards.ingestion.ingest import IngestReport as IngestReport
    from tb.api import evaluate as evaluate
    from tb.api import export as export
    from tb.api import knn_probe as knn_probe
    from tb.api import linear_probe as linear_probe
    from tb.api import load_classifier as load_classifier
    from tb.api import report as report
    from tb.api import reproduce as reproduce
    from tb.api import retrieve as retrieve
    from tb.api import shard as shard
    from tb.api import train as train
    from tb.evaluation.accuracy import Evaluation as Evaluation
    from tb.evaluation.probes import Retrieval as Retrieval
    from tb.tables.reproduce import Reproduction as Reproduction
    from tb.version import __version__ as __version__
    from tb.weights.classifier import TrainedClassifier as TrainedClassifier

_MODULE_OF = {
    "Evaluation": "tb.evaluation.accuracy",
    "IngestReport": "shards.ingestion.ingest",
    "InputError": "shards.errors",
    "Reproduction": "tb.tables.reproduce",
    "Retrieval": "tb.evaluation.probes",
    "TrainedClassifier": "tb.weights.classifier",
    "__version__": "tb.version",
    "evaluate": "tb.api",
    "export": "tb.api",
    "knn_probe": "tb.api",
    "linear_probe": "tb.api",
    "load_classifier": "tb.api",
    "report": "tb.api",
    "reproduce": "tb.api",
    "retrieve": "tb.api",
    "shard": "tb.api",
    "train": "tb.api",
}
__all__ = [
    "Evaluation",
    "IngestReport",
    "InputError",
    "Reproduction",
    "Retrieval",
    "TrainedClassifier",
    "__version__",
    "evaluate",
    "export",
    "knn_probe",
    "linear_probe",
    "load_classifier",
    "report",
    "reproduce",
    "retrieve",
    "shard",
    "train",
]


if not TYPE_CHECKING:
    # Torch is imported only when a name that needs it is used.
    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
