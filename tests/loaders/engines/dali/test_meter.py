"""How the samples of a GPU's load are summed up."""

from loaders.engines.dali.meter import summary


def test_what_the_meter_tells() -> None:
    samples = [{"sm_percent": 10.0, "memory_mb": 5.0}, {"sm_percent": 30.0, "memory_mb": 4.0}]
    assert summary(samples) == {
        "sm_percent_mean": 20.0,
        "sm_percent_max": 30.0,
        "memory_mb_mean": 4.5,
        "memory_mb_max": 5.0,
    }
    assert summary([]) == {}
