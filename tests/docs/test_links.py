"""Links lead to files and headings, also in texts that are not pages of the site."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name after the #."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\s-]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for pair in LINK.findall(page.read_text()):
        link = "".join(pair)
        if "://" in link:
            continue  # the tests need no network
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        # The site makes a page of each notebook.
        assert target.exists() or target.with_suffix(".ipynb").exists(), link
        assert not anchor or anchor in anchors(target), link
