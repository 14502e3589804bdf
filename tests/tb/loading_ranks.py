"""A rank that has a student's two streams: `torchrun -m tests.tb.loading_ranks SHARDS`.

It prints the pid of its loader process while both streams go on. Then the loader process of rank 0
is aborted, so that Python lists its threads.
"""

import json
import os
import signal
import sys

from torch import distributed

from loaders.plan import stage_views
from loaders.subset import Part
from shards.format.manifest import read_manifest
from tb.config.load_config import load_config
from tb.method.streams import Stream, open_stream
from tb.training.distributed import join
from tests.processes import loader_process, wait_until_dead

if __name__ == "__main__":
    manifest, world = read_manifest(sys.argv[1]), join()
    config = load_config(
        "demo", ["machine.engine=fused", "labels.percent=50", "student.optim.batch_size=4"]
    )
    views = stage_views.finetune(num_frames=4, size_px=16)
    streams = [
        open_stream(Stream(part=part, spec=views), manifest, config, config.student.optim)
        for part in (Part.LABELLED, Part.UNLABELLED)
    ]
    running = [loader.stream() for loader in streams]
    for _ in range(3):
        for batches in running:
            next(batches)
    process = loader_process(os.getpid())
    assert process is not None
    # `print` may write the end of the line by itself, and both ranks write to one pipe.
    os.write(sys.stdout.fileno(), f"{json.dumps([world.rank, process])}\n".encode())
    distributed.barrier()  # so both loader processes run at the same time
    if world.is_main:
        os.kill(process, signal.SIGABRT)
        wait_until_dead(process)
