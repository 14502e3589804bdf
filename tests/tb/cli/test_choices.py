"""What the command line offers is what the libraries take, and the help says it."""

import re
from enum import EnumType
from inspect import Parameter
from typing import get_args, get_origin

import pytest

from loaders.engines.cpu import cpu_render_video
from loaders.engines.engine import EngineName
from loaders.plan.stage_views import NAMED_VIEWS
from shards.encode.codecs import CODECS
from shards.format.splits import SplitQuery
from tb.cli import choices
from tb.config.sections import Labels
from tb.demo.videos import SIZES
from tb.demo.worlds import WORLDS
from tb.stage_kinds import BASELINES, Distance, StageKind, Teacher, TeacherWeights
from tb.tables.published import BACKBONES, PERCENTS, TABLES
from tests.tb.commands import every_command, tb, usage_error

# Texts that may have other values than those which their help names.
OPEN = {
    ("reproduce", "dataset"): "a preset of one's own set",
}
CLOSED = (CODECS, NAMED_VIEWS, SIZES, WORLDS, BASELINES, BACKBONES, PERCENTS, TABLES)
ENUMS = (SplitQuery, EngineName, StageKind, Teacher, TeacherWeights, Distance)


def _parts(parameter: Parameter) -> tuple[list[object], str]:
    """The types that a parameter may have, without None, and its help."""
    kind, *infos = get_args(parameter.annotation)
    types = [kind] if get_origin(kind) is None else list(get_args(kind))
    return [one for one in types if one is not type(None)], getattr(infos[0], "help", "") or ""


PARAMETERS = [(name, one) for name, parameters in every_command() for one in parameters]


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (choices.RecipeOption, CODECS),
        (choices.SplitOption, set(SplitQuery) - {SplitQuery.UNUSED}),
        (choices.LabelledSplitOption, get_args(Labels.model_fields["split"].annotation)),
        (choices.ViewsOption, NAMED_VIEWS),
        (choices.DemoSizeOption, SIZES),
        (choices.DemoWorldOption, WORLDS),
        (choices.BaselineOption, BASELINES),
        (choices.TableOption, TABLES),
        (choices.BackboneOption, BACKBONES),
    ],
)
def test_the_choices_are_those_of_the_libraries(offered: EnumType, taken: object) -> None:
    assert {one.value for one in offered} == set(taken)  # type: ignore[call-overload]


def test_the_engines_are_those_that_render() -> None:
    for name in choices.RenderEngineOption:
        cpu_render_video(name.value)
    assert set(choices.RenderEngineOption) == {"auto", *EngineName} - {EngineName.DALI}


def test_a_text_does_not_list_its_choices() -> None:
    """Where the help of a text lists values, it should be an enum instead."""
    for name, parameter in PARAMETERS:
        types, text = _parts(parameter)
        if str not in types or (name, parameter.name) in OPEN:
            continue
        words = set(re.findall(r"[a-z0-9][a-z0-9_-]*", text))
        for known in (*CLOSED, *map(list, ENUMS)):
            assert len(words & {str(one) for one in known}) < 2, (name, text)
        assert not re.search(r"[a-z0-9_-]+, [a-z0-9_-]+,? or [a-z0-9_-]+\b", text), (name, text)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [pair for pair in PARAMETERS if isinstance(_parts(pair[1])[0][0], EnumType)],
    ids=lambda part: part if isinstance(part, str) else part.name,
)
def test_the_help_names_each_value_of_a_choice(name: str, parameter: Parameter) -> None:
    (kind,), _ = _parts(parameter)
    shown = re.sub(r"[^\w|-]", "", tb(*name.split(), "--help", width=200))
    assert "|".join(one.value for one in kind) in shown  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("shard folder --root x --out y --recipe h266", ("--recipe", "h266", "mjpeg")),
        ("data advise folder --root x --views students", ("--views", "students", "student_pair")),
        ("data ls x --split trian", ("--split", "trian", "pool")),
        ("train baseline nope --shards x --out y", ("METHOD", "nope", "fixmatch")),
        ("reproduce nope --out x", ("TABLE", "nope", "table1")),
        ("demo --size huge", ("--size", "huge", "medium")),
        ("predict run x.mp4 --engine dali", ("--engine", "dali", "reference")),
    ],
)
def test_another_value_is_refused_with_those_that_there_are(
    words: str, names: tuple[str, ...]
) -> None:
    for name in names:
        assert name in usage_error(*words.split())
