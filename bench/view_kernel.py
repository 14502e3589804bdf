"""What the Triton kernel of the views takes, found without a GPU: python -m bench.view_kernel

It compiles the kernel ahead of time for several GPUs and reads registers, spills and shared memory
from `ptxas`. It counts the bytes that the kernel and DALI's operators move for a view, and the
memory of a sample. It compares the kernel, in Triton's interpreter, with the oracle. The figures go
to a JSON file.
"""

import argparse
import json
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from loaders.engines.dali.view_kernel import GPU_TILE, NUM_WARPS, jitted, write_views
from loaders.engines.engine import StageTimes
from loaders.engines.dali.samples import Sample, SampleBatch
from loaders.plan import stage_views
from loaders.plan.draw import draw_plan
from loaders.plan.views import ViewSpec

TARGETS = (80, 89, 90)  # compute capabilities: A100, RTX 4090, H100
TYPES = {"float32": "fp32", "float16": "fp16", "uint8": "u8"}
_WARP = 32
