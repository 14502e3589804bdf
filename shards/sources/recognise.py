"""Which data set a folder looks like, by the names in it; for messages about a wrong root."""

import re
from dataclasses import dataclass
from pathlib import Path

from shards.sources.class_folders import LinkRule, find_videos, split_folders

UCF101_NAME = re.compile(r"v_(?P<name>[A-Za-z]+)_g(?P<group>\d\d)_c\d\d", re.ASCII)
# MOVIE_class_BODYPARTS_CAMERAMOTION_PEOPLE_VIEWPOINT_QUALITY_NUMBER
HMDB51_NAME = re.compile(
    r"(?P<start>.+)_[fhlu]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|goo|med)_\d+", re.ASCII
)
KINETICS_NAME = re.compile(r"(?P<id>[\w-]{11})_(?P<start>\d{1,6})_\d{1,6}", re.ASCII)
_PACKED = (".rar", ".zip", ".gz", ".tar")


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A public data set.

    Attributes:
        name: Its name.
        pattern: It matches the stems of its videos.
        example: The name of a file, for messages.
        needs_class_folders: Whether the root must hold the class folders themselves.
    """

    name: str
    pattern: re.Pattern[str]
    example: str
    needs_class_folders: bool = True


_KNOWN = (
    _Known(name="UCF101", pattern=UCF101_NAME, example="v_Class_gNN_cNN.avi"),
    _Known(name="HMDB51", pattern=HMDB51_NAME, example="MOVIE_class_f_cm_np1_fr_med_N.avi"),
    _Known(
        name="Kinetics400",
        pattern=KINETICS_NAME,
        example="ID_START_END.mp4",
        needs_class_folders=False,
    ),
)


def recognise(root: Path, rule: LinkRule) -> str:
    """What a folder looks like, and what to do with it: a part of a message."""
    videos = find_videos(root, rule)
    for known in _KNOWN:
        fitting = [path for path in videos if known.pattern.fullmatch(path.stem)]
        if len(fitting) > len(videos) / 2:
            if known.needs_class_folders and (top := fitting[0].parent.parent) != root:
                return f"the class folders of {known.name} are further down; give {top} as the root"
            return (
                f"this looks like {known.name}: class folders hold {known.example}; use `tb shard"
                f" {known.name.lower()}`"
            )
    packed = sorted(p.name for p in root.iterdir() if p.suffix in _PACKED)
    if packed and not videos:
        return f"it holds packed files (e.g. {packed[0]}); unpack them first"
    if not videos:
        return "it holds no videos"
    if split_folders(root, rule):
        return "it holds split folders (train, test, ...); use `tb shard folder`"
    return f"this looks like plain class folders (e.g. {videos[0].name}); use `tb shard folder`"
