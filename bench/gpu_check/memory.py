"""Gives back the memory that a cell has used, so that the next cell finds it free."""

import gc
import sys

import torch


def give_memory_back() -> None:
    """Empties the pools of torch and DALI."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    # A process that has not used DALI does not wait for its import.
    if graph := sys.modules.get("loaders.engines.dali.graph"):
        graph.return_unused_memory()
