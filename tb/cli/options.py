"""The options that several commands share.

--out is always what a command writes: a folder or a file. Training and measuring write to the work
folder, and they also find earlier stages there. It remembers its settings (WORK/config.yaml), so
--preset and --set are needed once. An option for a file beside the printed answer has the name of
the file's kind: --png, --csv. --shards is a finished data set, which is only read.
"""

from pathlib import Path
from typing import Annotated

import typer

from tb.cli.choices import complete_preset

Shards = Annotated[
    str,
    typer.Option(metavar="SHARDS", help="Finished shards, from `tb shard`: a folder, or a URL."),
]
ShardsDir = Annotated[
    str, typer.Argument(metavar="SHARDS", help="Finished shards: a folder or a URL.")
]
Out = Annotated[Path, typer.Option(metavar="WORK", help="Work folder: checkpoints, logs, report.")]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Preset's name or YAML file; default: the settings that WORK remembers.",
        autocompletion=complete_preset,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="One setting, e.g. labels.percent=5; repeatable."
    ),
]
PeekTest = Annotated[
    bool,
    typer.Option(
        "--peek-test",
        help="Read the held-out split before training is over, or again; the record says so.",
    ),
]
Picture = Annotated[Path, typer.Option(help="The picture to write, a PNG file.")]
