"""metrics.jsonl."""

from pathlib import Path

from tb.training.metrics import METRICS, MetricsLog, read_metrics


def test_a_log_drops_what_will_be_repeated_and_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    with MetricsLog(path, keep=0) as log:
        for step in range(4):
            log.write({"step": step, "loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 2, 3]
    with MetricsLog(path, keep=2) as log:
        log.write({"step": 2, "loss": 2.0})
    assert [row["loss"] for row in read_metrics(path)] == [1.0, 1.0, 2.0]
