"""What several commands print: tables, sizes, names, splits, progress."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from shards.summary import Summary

_MIB = 1 << 20
# The width where the output is a pipe. Rich's 80 columns would break long paths in two.
_PIPE_WIDTH = 160


def result_console() -> Console:
    """A console for tables; it prints text as it is, because a name may look like Rich's markup."""
    width = None if Console().is_terminal else _PIPE_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def size_text(num_bytes: int) -> str:
    """A number of bytes, for people."""
    return (
        f"{num_bytes / _MIB:.1f} MiB" if num_bytes < 1 << 30 else f"{num_bytes / (1 << 30):.2f} GiB"
    )


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yields a function for (done, total, key) that shows the progress on standard error."""
    from tb.progress import ProgressBar

    with ExitStack() as stack:
        bars: list[ProgressBar] = []

        def progress(num_done: int, total: int, key: str) -> None:
            if not bars:
                bars.append(stack.enter_context(ProgressBar(title, total)))
            bars[0].update(num_done, key)

        yield progress


def split_texts(summary: "Summary") -> Iterator[tuple[int, str]]:
    """Yields (split number, "9537 train, 3783 test") for each split."""
    for number, counts in enumerate(summary.splits, 1):
        yield number, ", ".join(f"{count} {name.text}" for name, count in counts.items())


def few(names: list[str], limit: int = 6) -> str:
    """The names, or the first ones and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
