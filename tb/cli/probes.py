"""`tb probe knn|linear` and `tb retrieve`: measure a frozen backbone's features."""

from typing import TYPE_CHECKING, Annotated

import typer

from shards.counted import counted
from tb import api
from tb.cli.choices import complete_stage
from tb.cli.group import Group
from tb.cli.next_command import places_of, say_next, say_next_stage
from tb.cli.options import Out, PeekTest, Preset, Set, Shards
from tb.evaluation.probe_defaults import DEFAULT_K, DEFAULT_L2, DEFAULT_TEMPERATURE

if TYPE_CHECKING:
    from tb.evaluation.accuracy import Evaluation

probe_app = Group(help="Classify with a frozen backbone's features, without training it.")

StageName = Annotated[
    str,
    typer.Argument(
        metavar="STAGE",
        help="A trained stage in WORK, e.g. invariant.",
        autocompletion=complete_stage,
    ),
]
AllLabels = Annotated[
    bool,
    typer.Option("--all-labels", help="Learn from all training videos, not only labelled ones."),
]


@probe_app.command()
def knn(
    stage: StageName,
    shards: Shards,
    out: Out,
    preset: Preset = None,
    set_: Set = None,
    k: Annotated[int, typer.Option(help="Number of neighbours.", min=1)] = DEFAULT_K,
    temperature: Annotated[
        float, typer.Option(help="The temperature of their weights.", min=1e-3)
    ] = DEFAULT_TEMPERATURE,
    all_labels: AllLabels = False,
    peek_test: PeekTest = False,
) -> None:
    """Classify videos of evaluation.split by their nearest training videos (cosine, weighted)."""
    result = api.knn_probe(
        stage,
        shards=shards,
        out=out,
        preset=preset,
        settings=set_ or [],
        k=k,
        temperature=temperature,
        all_labels=all_labels,
        peek_test=peek_test,
    )
    _tell(f"{k}-NN", result)
    labels = ["--all-labels"] if all_labels else []
    peek = ["--peek-test"] if peek_test else []
    say_next("probe", "linear", stage, *places_of(shards, out, preset, set_), *labels, *peek)


@probe_app.command()
def linear(
    stage: StageName,
    shards: Shards,
    out: Out,
    preset: Preset = None,
    set_: Set = None,
    l2: Annotated[
        float, typer.Option(help="Weight of the penalty on the weights.", min=1e-9)
    ] = DEFAULT_L2,
    all_labels: AllLabels = False,
    peek_test: PeekTest = False,
) -> None:
    """Train a logistic regression on training videos, and test it on evaluation.split."""
    result = api.linear_probe(
        stage,
        shards=shards,
        out=out,
        preset=preset,
        settings=set_ or [],
        l2=l2,
        all_labels=all_labels,
        peek_test=peek_test,
    )
    _tell("linear probe", result)
    peek = ["--peek-test"] if peek_test else []
    say_next("retrieve", stage, *places_of(shards, out, preset, set_), *peek)


def retrieve_command(
    stage: StageName,
    shards: Shards,
    out: Out,
    preset: Preset = None,
    set_: Set = None,
    peek_test: PeekTest = False,
) -> None:
    """Retrieve videos: R@k of evaluation.split's videos among all training videos."""
    found = api.retrieve(
        stage, shards=shards, out=out, preset=preset, settings=set_ or [], peek_test=peek_test
    )
    recalls = ", ".join(f"R@{k} {share:.1%}" for k, share in found.recall.items())
    typer.echo(
        f"{stage}: {recalls}; {counted(found.num_queries, 'video')} of split {found.split!r} among"
        f" {counted(found.num_gallery, 'training video')}"
    )
    say_next_stage(shards, out)


def _tell(probe: str, result: "Evaluation") -> None:
    typer.echo(
        f"{result.stage}, {probe}: top-1 {result.top1:.1%}, top-5 {result.top5:.1%} of"
        f" {counted(result.num_videos, 'video')} of split {result.split!r}"
        f" (chance {result.chance:.1%})"
    )
