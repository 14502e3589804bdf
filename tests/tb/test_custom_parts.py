"""docs/cookbook/custom_parts.md works as printed, and runs with such parts can be used again."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open

import tb
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb import registry
from tb.config.load_config import CONFIG, dump_yaml, load_config, work_config
from tb.method import augmentation, baselines
from tb.method.augmentation import augmentation_of
from tb.method.stages import build_stage
from tb.networks import backbones
from tb.networks.backbones import build_backbone
from tb.training.bad_videos import PartlyBad
from tb.training.loop import train
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tb.workflow.children import child_pool
from tests.made_once import made_once
from tests.tb import commands
from tests.tb.conftest import QUICK
from tests.tb.method.test_own_parts import made_batch
from tests.tb.steps import StoppedError, stopping_at

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cookbook" / "custom_parts.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
COMMANDS = re.findall(r"^    tb (--import .*)$", PAGE, re.M)
DEMO = {"preset": "demo"}
PLACES = ("--shards", "data/mine", "--out", "runs/mine")


@pytest.fixture(scope="session")
def trained(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's `my_parts.py`, which has run as a script; treat it as read-only."""

    def make(place: Path) -> None:
        (place / "data").mkdir()
        (place / "data" / "mine").symlink_to(manifest.root)
        videos = sorted((manifest.root.parent / "videos").rglob("*.mp4"))
        (place / "data" / "one.mp4").symlink_to(videos[0])
        (place / "my_parts.py").write_text("\n\n".join(BLOCKS))
        work = place / "runs" / "mine"
        work.mkdir(parents=True)
        # The script names no settings, because a work folder remembers them.
        (work / CONFIG).write_text(dump_yaml(load_config("demo", QUICK)))
        done = python(place, "my_parts.py")
        assert done.returncode == 0, done.stderr
        (place / "printed").write_text(done.stdout)

    return made_once(tmp_path_factory, "custom-parts", make)


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same folder as the current one, to write into; what it registers is forgotten."""
    place = tmp_path / "place"
    shutil.copytree(trained, place, symlinks=True)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield place
    for name in ("my_parts", "wrong"):
        sys.modules.pop(name, None)
    registry._IMPORTED.clear()
    for kind in (backbones, augmentation, baselines):
        kind._REGISTERED._found.clear()


def python(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A process in the folder `place`; it knows nothing of what this one has registered."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def imported() -> ModuleType:
    """The module of the current folder."""
    registry.import_modules(["my_parts"])
    return sys.modules["my_parts"]


def test_each_part_has_at_most_thirty_lines() -> None:
    assert len(BLOCKS) == 5
    assert max(block.count("\n") for block in BLOCKS) <= 30


def test_the_script_trains_and_the_record_names_the_parts(trained: Path) -> None:
    work = trained / "runs" / "mine"
    result = json.loads((work / "entropy" / "eval-test.json").read_text())
    assert (trained / "printed").read_text() == f"{result['top1']}\n"
    state = load_checkpoint(work / "entropy" / CHECKPOINT)
    settings = json.loads(state["settings"])
    assert state["step"] == state["steps"] == 6
    assert state["backbone"] == settings["backbone"] == "my_parts.narrow"
    assert settings["augmentation"] == "my_parts.haze"
    assert settings["baseline"] == "my_parts.Entropy"
    lines = (work / "entropy" / "metrics.jsonl").read_text().splitlines()
    assert {"L_sup", "L_unsup"} <= json.loads(lines[-1]).keys()


def test_the_commands_do_what_the_script_did(here: Path) -> None:
    scripts = {}
    for name in ("spread", "entropy"):
        scripts[name] = file_digest(Path("runs/mine", name, CHECKPOINT))
        shutil.rmtree(Path("runs/mine", name))
    names = ["train", "probe", "train", "eval", "predict", "export"]
    assert [shlex.split(line)[2] for line in COMMANDS] == names
    done = [commands.run(*shlex.split(line)) for line in COMMANDS]
    pretraining, probe, training, evaluation, prediction, export = (one.stdout for one in done)
    following = [commands.next_words(one.stderr)[2:5] for one in done[:3:2]]
    assert following == [["probe", "knn", "spread"], ["eval", "entropy", "--shards"]]
    assert training == pretraining == ""
    assert "spread, 20-NN: top-1" in probe
    for name, digest in scripts.items():
        assert file_digest(Path("runs/mine", name, CHECKPOINT)) == digest
    assert f"top-1 {float(Path('printed').read_text()):.1%}" in evaluation
    assert "one.mp4" in prediction
    assert "entropy.safetensors" in export
    with safe_open("entropy.safetensors", framework="pt") as file:
        assert file.metadata()["backbone"] == "my_parts.narrow"
    for path in ("runs/mine/entropy", "entropy.safetensors"):
        assert tb.load_classifier(path, device="cpu")(torch.rand(2, 3, 4, 16, 16)).shape == (2, 12)


def stopped(manifest: Manifest, work: Path) -> None:
    """The page's run, which stopped after its first checkpoint."""
    imported()
    config = work_config(Path("runs/mine"), None, ())
    stage = build_stage("my_parts.Entropy", manifest, config, work)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 3), work, config)
    assert load_checkpoint(work / "entropy" / CHECKPOINT)["step"] == 2


def test_a_run_that_stopped_ends_with_the_same_weights(here: Path, manifest: Manifest) -> None:
    stopped(manifest, Path("runs/again"))
    path = tb.train("my_parts.Entropy", shards=manifest.root, out="runs/again")
    assert file_digest(path) == file_digest(Path("runs/mine/entropy") / CHECKPOINT)
    with pytest.raises(InputError, match=r"settings: augmentation was 'my_parts\.haze'"):
        tb.train(
            "my_parts.Entropy",
            shards=manifest.root,
            out="runs/again",
            settings=["augmentation=null"],
        )


def test_a_pretraining_loss_is_a_stage(here: Path, manifest: Manifest) -> None:
    """It is recorded by name, goes on after a stop, and others begin with its weights."""
    path = Path("runs/mine/spread") / CHECKPOINT
    lines = (path.parent / "metrics.jsonl").read_text().splitlines()
    assert {"L_align", "L_spread"} <= json.loads(lines[-1]).keys()
    state = load_checkpoint(path)
    assert json.loads(state["settings"])["pretraining"] == "my_parts.Spread"
    assert state["classes"] == []
    imported()
    config, again = work_config(Path("runs/mine"), None, ()), Path("runs/again")
    stage = build_stage("my_parts.Spread", manifest, config, again)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 3), again, config)
    assert file_digest(tb.train("my_parts.Spread", shards=manifest.root, out=again)) == file_digest(
        path
    )
    tuned = tb.train("finetune-invariant", shards=manifest.root, out="runs/mine", init=path)
    assert load_checkpoint(tuned)["step"] == 6
    with pytest.raises(InputError, match="spread"):
        tb.evaluate("spread", shards=manifest.root, out="runs/mine")


def test_a_pretraining_loss_counts_no_bad_video(here: Path) -> None:
    def embed(clips: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(clips.flatten(1).float(), dim=1)

    loss = imported().Spread(model=embed, settings=None)
    clips = torch.rand(4, 2, 3, 1, 2, 2)
    batch, good = made_batch({"long": clips}, None), made_batch({"long": clips[:3]}, None)
    batch.valid[3] = False
    terms, expected = loss.terms(PartlyBad(**vars(batch), num_good=3)), loss.terms(good)
    for name in expected:
        torch.testing.assert_close(terms[name], expected[name])


def test_without_the_import_the_missing_part_is_named(here: Path) -> None:
    for words, exit_code in (
        (("eval", "entropy", *PLACES, "--peek-test"), 0),  # the result is there: nothing is built
        (("predict", "runs/mine/entropy", "data/one.mp4"), 2),
        (("train", "method", "my_parts.Entropy", *PLACES), 2),
    ):
        done = commands.process(*words)
        assert done.returncode == exit_code, done.stderr
        if exit_code:
            kind = "method 'my_parts.Entropy'" if words[0] == "train" else "'my_parts.narrow'"
            (line,) = done.stderr.splitlines()
            assert f"{kind} is not registered: import its module in Python" in line
            assert "`tb --import my_parts`" in line
    with pytest.raises(InputError, match=r"backbone 'my_parts\.narrow' is not registered"):
        tb.export("runs/mine/entropy", out="weights.safetensors")
    assert not Path("weights.safetensors").exists()
    with pytest.raises(InputError, match=r"augmentation 'my_parts\.fog' is not registered"):
        augmentation_of(load_config("demo", ["augmentation=my_parts.fog"]))
    before = list(sys.path)
    registry.import_modules([])
    assert sys.path == before  # other commands do not look for modules in the current folder
    for name in ("nothing_like_it", "my_parts.py", "", ".my_parts", "./my_parts"):
        with pytest.raises(InputError, match=f"--import {re.escape(name)}: no such module"):
            registry.import_modules([name])
    Path("broken.py").write_text("import nothing_like_it\n")
    with pytest.raises(ModuleNotFoundError, match="nothing_like_it"):
        registry.import_modules(["broken"])


def test_changed_code_is_refused_where_the_weights_do_not_fit(
    here: Path, manifest: Manifest
) -> None:
    stopped(manifest, Path("runs/again"))
    Path("my_parts.py").write_text(Path("my_parts.py").read_text().replace("32", "128"))
    del sys.modules["my_parts"]
    imported()
    for call in (
        lambda: tb.load_classifier("runs/mine/entropy"),
        lambda: tb.train("my_parts.Entropy", shards=manifest.root, out="runs/again"),
        lambda: tb.evaluate("entropy", shards=manifest.root, out="runs/again", peek_test=True),
    ):
        with pytest.raises(InputError, match=r"not the weights of backbone 'my_parts\.narrow'"):
            call()


@pytest.mark.slow
def test_children_of_jobs_know_what_is_registered(here: Path) -> None:
    imported()
    with child_pool(1) as pool:
        assert pool.submit(build_backbone, "my_parts.narrow").result().feature_dim == 32
    script = Path("my_script.py")
    build = 'pool.submit(build_backbone, "my_script.narrow").result()'
    script.write_text(
        f"{BLOCKS[0]}\nfrom tb.networks.backbones import build_backbone\n"
        "from tb.workflow.children import child_pool\n"
        'if __name__ == "__main__":\n'
        f"    with child_pool(1) as pool:\n        print({build}.feature_dim)\n"
    )
    done = python(here, str(script))
    assert done.stdout == "32\n", done.stderr
    Path("package").mkdir()
    shutil.move(script, "package/my_script.py")
    text = Path("package/my_script.py").read_text()
    Path("package/my_script.py").write_text(text.replace("my_script.n", "package.my_script.n"))
    done = python(here, "-m", "package.my_script")
    assert done.stdout == "32\n", done.stderr


WRONG = """
import torch
import tb


class Plain:
    pass


class Empty(tb.MethodLoss):
    pass


class Thrice(tb.MethodLoss):
    unlabelled = "thrice"

    def terms(self, labelled, unlabelled):
        return {}


@tb.register_backbone
def no_backbone():
    return torch.nn.Identity()


@tb.register_backbone
def no_features():
    return tb.Backbone(torch.nn.Identity(), feature_dim=8)


@tb.register_augmentation
def cropped(clips, draws, group):
    return clips[..., 1:]


@tb.register_augmentation
def forgetful(clips, draws, group):
    clips.mul_(draws[0, 0])


@tb.register_method
class Silent(tb.MethodLoss):
    def terms(self, labelled, unlabelled):
        return {"l_sup": torch.zeros(())}


@tb.register_method
class Student(tb.MethodLoss):
    def terms(self, labelled, unlabelled):
        return {"loss": torch.zeros(())}


def nested():
    @tb.register_backbone
    def inside():
        pass
"""


@pytest.mark.parametrize(
    ("stage", "settings", "complaint"),
    [
        ("supervised", "backbone=wrong.no_backbone", r"returns a Identity; return tb\.Backbone"),
        (
            "supervised",
            "backbone=wrong.no_features",
            r"returns shape \(4, 3, 4, 16, 16\), and feat",
        ),
        ("supervised", "augmentation=wrong.cropped", r"cropped: returns \(4, 3, 4, 16, 15\) for"),
        ("supervised", "augmentation=wrong.forgetful", "forgetful: returns NoneType for 'clip'"),
        ("wrong.Silent", "labels.seed=0", "method Silent: its terms have no scalar tensor 'loss'"),
        ("wrong.Student", "labels.seed=0", "'student', but that folder is another stage's"),
        ("wrong.Missing", "labels.seed=0", r"method 'wrong\.Missing' is not registered"),
        ("entropy", "labels.seed=0", "no stage 'entropy': choose one of invariant.*module.name"),
    ],
)
def test_wrong_parts_are_refused(
    here: Path, manifest: Manifest, stage: str, settings: str, complaint: str
) -> None:
    Path("wrong.py").write_text(WRONG)
    registry.import_modules(["wrong"])
    with pytest.raises(InputError, match=complaint):
        tb.train(stage, shards=manifest.root, out="wrong", settings=[*QUICK, settings], **DEMO)


def test_what_cannot_be_registered_is_refused(here: Path, manifest: Manifest) -> None:
    Path("wrong.py").write_text(WRONG)
    registry.import_modules(["wrong"])
    wrong = sys.modules["wrong"]
    with pytest.raises(InputError, match=r"backbone Identity: its trunk returns shape \(1, 3, 4"):
        wrong.no_features()(torch.zeros(1, 3, 4, 8, 8))
    with pytest.raises(InputError, match=r"nested.<locals>.inside: move it to the top level"):
        wrong.nested()
    with pytest.raises(InputError, match=r"method Plain: make it a subclass of tb\.MethodLoss, or"):
        tb.register_method(wrong.Plain)
    with pytest.raises(InputError, match="method Empty: write its function `terms`"):
        tb.register_method(wrong.Empty)
    with pytest.raises(InputError, match="unlabelled is 'thrice': choose one of clip, twice"):
        tb.register_method(wrong.Thrice)
    with pytest.raises(InputError, match=r"write @tb\.register_backbone above it"):
        tb.train("student", shards=manifest.root, out="wrong", backbone=wrong.nested)
    assert not Path("wrong").exists()
    said = commands.complaint("train", "method", "student", *PLACES)
    assert "no method 'student': give module.name of a registered one" in said
