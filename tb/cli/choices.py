"""The closed choices of the command line as enums, and completions for the open ones.

The libraries keep these lists too (a test compares them), but the libraries load numpy, Arrow or
PyAV, and `tb --help` must not wait for these imports.
"""

from enum import StrEnum

from tb.stage_kinds import StageKind


class RecipeOption(StrEnum):
    """How videos are stored: the keys of `shards.encode.codecs.CODECS`."""

    H264 = "h264"
    HEVC = "hevc"
    VP9 = "vp9"
    MJPEG = "mjpeg"
    COPY = "copy"


class SplitOption(StrEnum):
    """The videos of a split: `shards.format.splits.SplitQuery` without the unused ones."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    POOL = "pool"


class LabelledSplitOption(StrEnum):
    """The videos that training may use: what the setting `labels.split` takes."""

    TRAIN = "train"
    POOL = "pool"


class ViewsOption(StrEnum):
    """What is cut from a video: the keys of `loaders.plan.stage_views.NAMED_VIEWS`."""

    PRETRAIN = "pretrain"
    FINETUNE = "finetune"
    STUDENT = "student"
    STUDENT_PAIR = "student_pair"
    SIMILARITY = "similarity"
    EVAL = "eval"


class RenderEngineOption(StrEnum):
    """The engines that render single videos: what `loaders.Render` takes."""

    AUTO = "auto"
    FUSED = "fused"
    REFERENCE = "reference"


class DemoSizeOption(StrEnum):
    """The sizes of the demo: the keys of `tb.demo.videos.SIZES`."""

    TINY = "tiny"
    SMALL = "small"
    MEDIUM = "medium"


class DemoWorldOption(StrEnum):
    """The worlds of the demo: the keys of `tb.demo.worlds.WORLDS`."""

    OBJECTS = "objects"
    PLACES = "places"


class BaselineOption(StrEnum):
    """The semi-supervised baselines: `tb.stage_kinds.BASELINES`."""

    PSEUDO_LABEL = StageKind.PSEUDO_LABEL
    FIXMATCH = StageKind.FIXMATCH
    MEAN_TEACHER = StageKind.MEAN_TEACHER


class TableOption(StrEnum):
    """The paper's tables: the keys of `tb.tables.published.TABLES`."""

    MAIN = "main"
    TABLE1 = "table1"
    TABLE2 = "table2"


class BackboneOption(StrEnum):
    """The backbones of the paper's tables: the keys of `tb.tables.published.BACKBONES`."""

    R50 = "r50"
    R18 = "r18"


def complete_preset(incomplete: str) -> list[str]:
    """The presets whose names begin with the given text."""
    from tb import api

    return [name for name in api.preset_names() if name.startswith(incomplete)]


def complete_stage(incomplete: str) -> list[str]:
    """The stages whose names begin with the text; other folders of WORK are not completed."""
    return [kind.value for kind in StageKind if kind.startswith(incomplete)]


def complete_classifier(incomplete: str) -> list[str]:
    """The stages that train a classifier and whose names begin with the given text."""
    return [name for name in complete_stage(incomplete) if StageKind(name).is_classifier]
