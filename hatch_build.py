"""Writes the commit into wheels and source archives, so that `tb --version` names it there too."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface[Any]):
    """Adds tb/commit.txt to what is built. An editable install asks the checkout instead."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each build; `version` is "standard" or "editable"."""
        sys.path.insert(0, self.root)
        from tb.version import COMMIT_FILE, commit_of_checkout

        self._folder = TemporaryDirectory()
        commit = commit_of_checkout(Path(self.root))
        if commit and version != "editable":
            file = Path(self._folder.name) / COMMIT_FILE
            file.write_text(f"{commit}\n")
            build_data["force_include"][str(file)] = f"tb/{COMMIT_FILE}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called after each build."""
        self._folder.cleanup()
