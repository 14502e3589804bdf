"""Processes that have the libraries when they start: importing torch takes seconds.

`FORKS` forks them from a server that has imported everything. Python has one such server in a
process, and the last list of imports counts. So no other module sets one.
"""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "torchvision",
        "torch.utils.tensorboard",
        "shards.ingestion.ingest",
        "tb.tables.grid",
        "tb.workflow.run",
    ]
)
