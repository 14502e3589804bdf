"""How the check keeps the threads of a peer busy."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from bench.gpu_check.loading import finished


def test_two_batches_are_in_work_behind_the_one_that_is_awaited() -> None:
    three_meet = Barrier(3)

    def render() -> None:
        three_meet.wait(timeout=60)  # of a program that waits for each batch, only one comes

    with ThreadPoolExecutor(3) as pool:
        assert list(finished([pool.submit(render)] for _ in range(6))) == [1] * 4
