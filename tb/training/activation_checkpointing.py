"""Activation checkpointing: residual blocks keep only their input.

The blocks run again in the backward pass. That saves most of the memory for activations, and costs
about a third more time.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

# The class names of PyTorchVideo's and of torchvision's residual blocks.
_RESIDUAL_BLOCKS = ("ResBlock", "BasicBlock")


def checkpoint_activations(model: nn.Module) -> int:
    """Makes the residual blocks of a model recompute their activations; returns how many it has.

    The results and the names of the weights stay the same.
    """
    blocks = [x for x in model.modules() if type(x).__name__ in _RESIDUAL_BLOCKS]
    for block in blocks:
        block.forward = partial(_recomputed, block, block.forward)  # type: ignore[method-assign]
    return len(blocks)


def _recomputed(block: nn.Module, forward: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        # A compiled graph updates the running statistics once, even if it recomputes the block.
        return checkpoint(forward, clips, use_reentrant=False)
    return checkpoint(
        forward,
        clips,
        use_reentrant=False,
        preserve_rng_state=False,  # no block draws random numbers
        context_fn=partial(_contexts, block),
    )


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _frozen_statistics(block)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Inside, batch norm keeps its running statistics, which already count this batch."""
    norms = [x for x in block.modules() if isinstance(x, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches
