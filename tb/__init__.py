"""TimeBalance: the method, the training and the command line.

Here: everything that knows of losses, networks, settings and work folders.
Not here: videos on their way to batches (`shards`, `loaders`).

The public names are here: what the command line does, as functions (`tb.api`), and decorators for
your own backbone, augmentation, loss and method. A name is imported when it is first used, so
`import tb` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tb.version import __version__  # noqa: F401 (for `tb.__version__`)

if TYPE_CHECKING:
    from shards.errors import InputError as InputError
    from shards.ingestion.ingest_report import IngestReport as IngestReport
    from tb.advice.advice import Advice as Advice
    from tb.api.answers import load_classifier as load_classifier
    from tb.api.answers import predict as predict
    from tb.api.inspection import compare_runs as compare_runs
    from tb.api.inspection import compare_settings as compare_settings
    from tb.api.inspection import doctor as doctor
    from tb.api.inspection import draw_frames as draw_frames
    from tb.api.inspection import find_runs as find_runs
    from tb.api.inspection import inspect_all_teachers as inspect_all_teachers
    from tb.api.inspection import plot_runs as plot_runs
    from tb.api.inspection import preset_names as preset_names
    from tb.api.inspection import read_run as read_run
    from tb.api.inspection import show_settings as show_settings
    from tb.api.inspection import views as views
    from tb.api.whole_runs import reproduce as reproduce
    from tb.api.whole_runs import reproduce_cost as reproduce_cost
    from tb.api.whole_runs import run_demo as run_demo
    from tb.api.work_folder import advise as advise
    from tb.api.work_folder import evaluate as evaluate
    from tb.api.work_folder import export as export
    from tb.api.work_folder import inspect_teachers as inspect_teachers
    from tb.api.work_folder import knn_probe as knn_probe
    from tb.api.work_folder import linear_probe as linear_probe
    from tb.api.work_folder import report as report
    from tb.api.work_folder import retrieve as retrieve
    from tb.api.work_folder import shard as shard
    from tb.api.work_folder import train as train
    from tb.diagnosis import MachineFact as MachineFact
    from tb.evaluation.accuracy import Evaluation as Evaluation
    from tb.evaluation.probes import Retrieval as Retrieval
    from tb.method.augmentation import register_augmentation as register_augmentation
    from tb.method.baselines import MethodLoss as MethodLoss
    from tb.method.baselines import register_method as register_method
    from tb.method.pretraining import PretrainingLoss as PretrainingLoss
    from tb.method.teacher_inspection import TeacherInspection as TeacherInspection
    from tb.networks.backbones import Backbone as Backbone
    from tb.networks.backbones import register_backbone as register_backbone
    from tb.prediction.classifier import TrainedClassifier as TrainedClassifier
    from tb.prediction.prediction import Answers as Answers
    from tb.prediction.prediction import Prediction as Prediction
    from tb.reports.runs import Run as Run
    from tb.reports.runs import RunComparison as RunComparison
    from tb.stage_kinds import StageKind as StageKind
    from tb.tables.reproduce import Reproduction as Reproduction

_MODULE_OF = {
    "Advice": "tb.advice.advice",
    "Answers": "tb.prediction.prediction",
    "Backbone": "tb.networks.backbones",
    "Evaluation": "tb.evaluation.accuracy",
    "IngestReport": "shards.ingestion.ingest_report",
    "InputError": "shards.errors",
    "MachineFact": "tb.diagnosis",
    "MethodLoss": "tb.method.baselines",
    "Prediction": "tb.prediction.prediction",
    "PretrainingLoss": "tb.method.pretraining",
    "Reproduction": "tb.tables.reproduce",
    "Retrieval": "tb.evaluation.probes",
    "Run": "tb.reports.runs",
    "RunComparison": "tb.reports.runs",
    "StageKind": "tb.stage_kinds",
    "TeacherInspection": "tb.method.teacher_inspection",
    "TrainedClassifier": "tb.prediction.classifier",
    "advise": "tb.api.work_folder",
    "compare_runs": "tb.api.inspection",
    "compare_settings": "tb.api.inspection",
    "doctor": "tb.api.inspection",
    "draw_frames": "tb.api.inspection",
    "evaluate": "tb.api.work_folder",
    "export": "tb.api.work_folder",
    "find_runs": "tb.api.inspection",
    "inspect_all_teachers": "tb.api.inspection",
    "inspect_teachers": "tb.api.work_folder",
    "knn_probe": "tb.api.work_folder",
    "linear_probe": "tb.api.work_folder",
    "load_classifier": "tb.api.answers",
    "plot_runs": "tb.api.inspection",
    "predict": "tb.api.answers",
    "preset_names": "tb.api.inspection",
    "read_run": "tb.api.inspection",
    "register_augmentation": "tb.method.augmentation",
    "register_backbone": "tb.networks.backbones",
    "register_method": "tb.method.baselines",
    "report": "tb.api.work_folder",
    "reproduce": "tb.api.whole_runs",
    "reproduce_cost": "tb.api.whole_runs",
    "retrieve": "tb.api.work_folder",
    "run_demo": "tb.api.whole_runs",
    "shard": "tb.api.work_folder",
    "show_settings": "tb.api.inspection",
    "train": "tb.api.work_folder",
    "views": "tb.api.inspection",
}
__all__ = [
    "Advice",
    "Answers",
    "Backbone",
    "Evaluation",
    "IngestReport",
    "InputError",
    "MachineFact",
    "MethodLoss",
    "Prediction",
    "PretrainingLoss",
    "Reproduction",
    "Retrieval",
    "Run",
    "RunComparison",
    "StageKind",
    "TeacherInspection",
    "TrainedClassifier",
    "advise",
    "compare_runs",
    "compare_settings",
    "doctor",
    "draw_frames",
    "evaluate",
    "export",
    "find_runs",
    "inspect_all_teachers",
    "inspect_teachers",
    "knn_probe",
    "linear_probe",
    "load_classifier",
    "plot_runs",
    "predict",
    "preset_names",
    "read_run",
    "register_augmentation",
    "register_backbone",
    "register_method",
    "report",
    "reproduce",
    "reproduce_cost",
    "retrieve",
    "run_demo",
    "shard",
    "show_settings",
    "train",
    "views",
]


if not TYPE_CHECKING:
    # Torch is imported only when a name that needs it is used.
    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
