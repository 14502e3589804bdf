"""Raw videos to verified, train-ready WebDataset shards.

Here: everything from a video on disk to checked bytes from a shard. The names below are for users.
Not here: decoding for training (`loaders`) and training itself (`tb`).
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

# PyAV logs there what FFmpeg says, once a library such as torchvision 0.25 has set a level. Without
# a handler, Python prints such lines to stderr. Our errors say what is wrong with a video.
logging.getLogger("libav").addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from shards.decode.packet_decoder import DecodeError as DecodeError
    from shards.encode.recipe import Recipe as Recipe
    from shards.errors import InputError as InputError
    from shards.format.manifest import Manifest as Manifest
    from shards.format.manifest import read_manifest as read_manifest
    from shards.format.packet_index import PacketsFile as PacketsFile
    from shards.format.packets import ByteRange as ByteRange
    from shards.format.packets import Packets as Packets
    from shards.format.packets import Window as Window
    from shards.format.video import Video as Video
    from shards.ingestion.ingest import ingest as ingest
    from shards.ingestion.ingest_report import IngestReport as IngestReport
    from shards.labels.label_choice import LabelChoice as LabelChoice
    from shards.labels.label_choice import draw_labels as draw_labels
    from shards.labels.label_choice import labels_from_list as labels_from_list
    from shards.reader import ShardError as ShardError
    from shards.reader import ShardReader as ShardReader
    from shards.sources.folder import from_folder as from_folder
    from shards.sources.hmdb51 import from_hmdb51 as from_hmdb51
    from shards.sources.kinetics400 import from_kinetics400 as from_kinetics400
    from shards.sources.segment import Segment as Segment
    from shards.sources.source import Dataset as Dataset
    from shards.sources.source import Source as Source
    from shards.sources.table import from_csv as from_csv
    from shards.sources.ucf101 import from_ucf101 as from_ucf101
    from shards.summary import ClassSummary as ClassSummary
    from shards.summary import Spread as Spread
    from shards.summary import Summary as Summary
    from shards.summary import summarize as summarize
    from shards.verification import verify as verify

_MODULE_OF = {
    "ByteRange": "shards.format.packets",
    "ClassSummary": "shards.summary",
    "Dataset": "shards.sources.source",
    "DecodeError": "shards.decode.packet_decoder",
    "IngestReport": "shards.ingestion.ingest_report",
    "InputError": "shards.errors",
    "LabelChoice": "shards.labels.label_choice",
    "Manifest": "shards.format.manifest",
    "Packets": "shards.format.packets",
    "PacketsFile": "shards.format.packet_index",
    "Recipe": "shards.encode.recipe",
    "Segment": "shards.sources.segment",
    "ShardError": "shards.reader",
    "ShardReader": "shards.reader",
    "Source": "shards.sources.source",
    "Spread": "shards.summary",
    "Summary": "shards.summary",
    "Video": "shards.format.video",
    "Window": "shards.format.packets",
    "draw_labels": "shards.labels.label_choice",
    "from_csv": "shards.sources.table",
    "from_folder": "shards.sources.folder",
    "from_hmdb51": "shards.sources.hmdb51",
    "from_kinetics400": "shards.sources.kinetics400",
    "from_ucf101": "shards.sources.ucf101",
    "ingest": "shards.ingestion.ingest",
    "labels_from_list": "shards.labels.label_choice",
    "read_manifest": "shards.format.manifest",
    "summarize": "shards.summary",
    "verify": "shards.verification",
}

__all__ = [
    "ByteRange",
    "ClassSummary",
    "Dataset",
    "DecodeError",
    "IngestReport",
    "InputError",
    "LabelChoice",
    "Manifest",
    "Packets",
    "PacketsFile",
    "Recipe",
    "Segment",
    "ShardError",
    "ShardReader",
    "Source",
    "Spread",
    "Summary",
    "Video",
    "Window",
    "draw_labels",
    "from_csv",
    "from_folder",
    "from_hmdb51",
    "from_kinetics400",
    "from_ucf101",
    "ingest",
    "labels_from_list",
    "read_manifest",
    "summarize",
    "verify",
]

if not TYPE_CHECKING:
    # PyAV, Arrow and fsspec are imported only when a name that needs them is used.
    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
