"""A wrong input ends a command of `bench` with one line and exit code 2, before it measures."""

import importlib
from pathlib import Path

import pytest

from bench.arguments import run_command

SHARDS = ("--shards", "nowhere")
CASES = [
    ("beside_training", SHARDS, "nowhere: no such folder"),
    ("beside_training", (*SHARDS, "--seconds", "0"), "--seconds: '0': give a number of seconds"),
    ("beside_training", (*SHARDS, "--device", "tpu"), "device 'tpu' is not usable here"),
    ("dali_operators", SHARDS, "nowhere: no such folder"),
    ("ingest", ("--rounds", "0"), "--rounds: '0': give a whole number, at least 1"),
    ("interpreter_turns", SHARDS, "nowhere: no such folder"),
    ("interpreter_turns", (*SHARDS, "--videos", "0"), "--videos: '0': give a whole number"),
    ("kernel_profile", ("--rounds", "0"), "--rounds: '0': give a whole number, at least 1"),
    ("late_windows", SHARDS, "nowhere: no such folder"),
    ("loader_death", SHARDS, "nowhere: no such folder"),
    ("loader_death", (*SHARDS, "--kills", "0"), "--kills: '0': give a whole number"),
    ("loader_throughput", SHARDS, "nowhere: no such folder"),
    ("loader_throughput", (*SHARDS, "--videos", "-3"), "--videos: '-3': give a whole number"),
    ("loader_throughput", (*SHARDS, "--json", "."), "--json: .: is a folder"),
    ("loader_throughput", (*SHARDS, "--png", "no/x.png"), "there is no folder no; give a file"),
    ("proof_cost", ("--videos", "nowhere"), "nowhere: no such folder"),
    ("proof_cost", ("--videos", ".", "--rounds", "0"), "--rounds: '0': give a whole number"),
    ("remote_epoch", SHARDS, "nowhere: no such folder"),
    ("remote_epoch", (*SHARDS, "--views", "fine"), "invalid choice: 'fine'"),
    ("soak", ("--epochs", "2"), "--epochs 2: give at least"),
    ("soak", SHARDS, "nowhere: no such folder"),
    ("storage_formats", ("--videos", "nowhere"), "nowhere: no such folder"),
    ("train_step", ("--steps", "three"), "--steps: 'three': give a whole number, at least 1"),
    ("train_step", ("--device", "tpu"), "device 'tpu' is not usable here"),
    ("view_kernel", SHARDS, "nowhere: no such folder"),
    ("window_bytes", ("--videos", "nowhere"), "nowhere: no such folder"),
    ("window_decoders", SHARDS, "nowhere: no such folder"),
]


@pytest.mark.parametrize(
    ("name", "words", "reason"), CASES, ids=[f"{name} {words[-2:]}" for name, words, _ in CASES]
)
def test_a_wrong_input_is_named(
    name: str,
    words: tuple[str, ...],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    command = importlib.import_module(f"bench.{name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name, *words])
    with pytest.raises(SystemExit) as ended:
        run_command(command.main)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_command_is_tested() -> None:
    """Without `chart`, which takes no arguments; `gpu_check` has tests of its own."""
    bench = Path(__file__).parents[2] / "bench"
    commands = {path.stem for path in bench.glob("*.py") if "__main__" in path.read_text()}
    assert commands - {"chart"} == {name for name, _, _ in CASES}
