"""The options that several commands share.

--shards is a finished data set, --out the work folder. The work folder remembers its settings
(WORK/config.yaml), so --preset and --set are needed once.
"""

from pathlib import Path
from typing import Annotated

import typer

from tb.cli.choices import complete_preset

Shards = Annotated[str, typer.Option(help="Finished shards, from `tb shard`: a folder, or a URL.")]
Out = Annotated[Path, typer.Option(help="Work folder: checkpoints, logs, report.")]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Preset's name or YAML file; default: WORK's own settings.",
        autocompletion=complete_preset,
    ),
]
OnlyPreset = Annotated[
    str | None,
    typer.Option("--preset", help="Preset's name or YAML file.", autocompletion=complete_preset),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, e.g. labels.percent=5; repeatable.")
]
PeekTest = Annotated[
    bool,
    typer.Option(
        "--peek-test",
        help="Read the held-out split before training is over, or again; the record says so.",
    ),
]
Png = Annotated[Path, typer.Option(help="The picture to write.")]
