"""The charts of `tb inspect teachers`."""

import pytest

from tb.reports.teacher_charts import bin_names


@pytest.mark.parametrize(
    ("edges", "names"),
    [
        ([(0.25, 0.5), (0.5, 1.0)], ["0.25\nto 0.50", "0.50\nto 1.00"]),
        # As for a teacher that finds the moments of every video alike.
        ([(0.9912, 0.9968), (0.9968, 0.9981)], ["0.991\nto 0.997", "0.997\nto 0.998"]),
        ([(0.5, 0.5), (0.5, 0.7)], ["0.50\nto 0.50", "0.50\nto 0.70"]),
    ],
)
def test_a_bin_has_digits_enough_to_tell_its_edges_apart(
    edges: list[tuple[float, float]], names: list[str]
) -> None:
    assert bin_names(edges) == names
