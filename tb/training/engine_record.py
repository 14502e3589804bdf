"""Which engine a run began with, and why: WORK/STAGE/engine.json.

A resumed run keeps its engine, and what is computed from its weights (evaluations, features) uses
that engine too. So the pixels do not change, even if "auto" would now choose another engine. For
dali the record also says what makes the views, because its two ways round differently.
"""

import json
from pathlib import Path

from loaders.engines.choice import EngineChoice, why_not_dali
from loaders.engines.dali.layout import DaliViews
from loaders.engines.engine import AUTO, EngineName
from shards.errors import InputError
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.config.sections import Config

ENGINE = "engine.json"


def write_engine(folder: Path, choice: EngineChoice) -> None:
    """Records the engine of the run in `folder`."""
    content = {"engine": choice.name.value, "why": choice.why}
    if choice.views is not None:
        content["views"] = choice.views.value
    publish_bytes(folder / ENGINE, (json.dumps(content, indent=1) + "\n").encode())


def read_engine(folder: Path) -> EngineChoice | None:
    """The engine that the run in `folder` began with; None if there is no such run.

    Raises:
        InputError: The record is not readable.
    """
    path = folder / ENGINE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        views = DaliViews(content["views"]) if "views" in content else None
        name, why = EngineName(content["engine"]), str(content["why"])
        return EngineChoice(name=name, why=why, views=views)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not a record of an engine ({error}); remove it, and give the engine with"
            " --set machine.engine=..."
        ) from error


def pixels_from(engine: str, views: DaliViews | None) -> str:
    """What makes the pixels of a run, as text; a run resumes only with the same."""
    return f"{engine} ({views})" if views is DaliViews.KERNEL else str(engine)


def recorded_engine(folder: Path, manifest: Manifest, config: Config) -> EngineChoice | None:
    """The engine that the run in `folder` began with; None if there is none that runs here."""
    choice = read_engine(folder)
    if choice is None or not choice.name.has_pipelines:
        return choice
    return None if why_not_dali(config.machine.device, manifest.distinct_codecs) else choice


def with_engine(config: Config, choice: EngineChoice) -> Config:
    """The settings, with this engine and what makes its views. Only dali has layouts to try."""
    update: dict[str, object] = {"engine": choice.name.value, "dali_views": choice.views}
    if not choice.name.has_pipelines:
        update |= {"tune": False, "gpu_memory_mb": None}
    machine = config.machine.model_copy(update=update)
    return config.model_copy(update={"machine": machine})


def with_engine_of(folder: Path, manifest: Manifest, config: Config) -> Config:
    """The settings with the engine of the run in `folder`, where they say "auto".

    The engine is fused where there is no record, or where the recorded engine does not run here.
    If the settings name the run's engine but not what makes its views, they get that from the run.
    """
    machine, choice = config.machine, recorded_engine(folder, manifest, config)
    if machine.engine != AUTO:
        if choice is None or choice.name != machine.engine or machine.dali_views is not None:
            return config
        return with_engine(config, choice)
    return with_engine(
        config, choice or EngineChoice(name=EngineName.FUSED, why="no engine is recorded")
    )
