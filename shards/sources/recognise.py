"""Which data set a folder looks like, by the names in it; for messages about a wrong root."""

import re
from pathlib import Path

from shards.sources.class_folders import find_videos, split_folders

UCF101_NAME = re.compile(r"v_(?P<name>[A-Za-z]+)_g(?P<group>\d\d)_c\d\d", re.ASCII)
# MOVIE_class_BODYPARTS_CAMERAMOTION_PEOPLE_VIEWPOINT_QUALITY_NUMBER
HMDB51_NAME = re.compile(
    r"(?P<start>.+)_[fhlu]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|goo|med)_\d+", re.ASCII
)
KINETICS_NAME = re.compile(r"(?P<id>[\w-]{11})_(?P<start>\d{1,6})_\d{1,6}", re.ASCII)
_PACKED = (".rar", ".zip", ".gz", ".tar")


def recognise(root: Path) -> str:
    """What a folder looks like, and what to do with it: a part of a message."""
    videos = find_videos(root)
    for name, pattern, example in (
        ("UCF101", UCF101_NAME, "v_Class_gNN_cNN.avi"),
        ("HMDB51", HMDB51_NAME, "MOVIE_class_f_cm_np1_fr_med_N.avi"),
        ("Kinetics400", KINETICS_NAME, "ID_START_END.mp4"),
    ):
        fitting = [path for path in videos if pattern.fullmatch(path.stem)]
        if len(fitting) > len(videos) / 2:
            if name != "Kinetics400" and (top := fitting[0].parent.parent) != root:
                return f"the class folders of {name} are further down; give --root {top}"
            return (
                f"this looks like {name}: class folders hold {example}; use `tb shard"
                f" {name.lower()}`"
            )
    packed = sorted(p.name for p in root.iterdir() if p.suffix in _PACKED)
    if packed and not videos:
        return f"it holds packed files (e.g. {packed[0]}); unpack them first"
    if not videos:
        return "it holds no videos"
    if split_folders(root):
        return "it holds split folders (train, test, ...); use `tb shard folder`"
    return f"this looks like plain class folders (e.g. {videos[0].name}); use `tb shard folder`"
