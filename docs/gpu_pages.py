"""A hook of MkDocs: the page of each GPU that was measured is listed under Results."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the files that `python -m bench.gpu_check report` has written to results/gpu."""
    pages = sorted(Path(config.docs_dir, "results", "gpu").glob("*.md"))
    (results,) = (section["Results"] for section in config.nav or [] if "Results" in section)
    results += [f"results/gpu/{page.name}" for page in pages]
    return config
