"""One DALI pipeline that is replaced whenever a sample kills it, and the batches in it."""

import time
from collections import deque
from collections.abc import Callable

import torch

from loaders.engines.dali.graph import Graph
from loaders.engines.dali.layout import DaliViews
from loaders.engines.dali.samples import SampleBatch
from loaders.engines.engine import Rendered, WorkTimes
from loaders.plan.views import ViewSpec
from shards.decode.packet_decoder import DecodeError


class Lane:
    """Renders batches in their order.

    DALI cannot go on after a bad sample, because the pipeline dies with all batches in it. So a
    lane finds the bad samples one by one and gives the others to a new pipeline.
    """

    def __init__(
        self,
        new_graph: Callable[[int], Graph],
        depth: int,
        spec: ViewSpec,
        *,
        dtype: str,
        device: torch.device,
        decodes: bool,
        views: DaliViews | str,
    ) -> None:
        """An empty lane.

        Args:
            new_graph: Builds a pipeline for a number of batches at once.
            depth: How many batches the lane holds at once.
            spec: The views.
            dtype: Torch's name of the views' type.
            device: Where the views end up.
            decodes: Whether DALI decodes; if not, it gets pictures.
            views: What makes the views.
        """
        self._new_graph, self._depth = new_graph, depth
        self._spec, self._dtype, self._device, self._decodes = spec, dtype, device, decodes
        self._views = views
        self._graph = new_graph(depth)
        self._batches: deque[SampleBatch] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether the lane holds no batch."""
        return not self._batches

    def submit(self, batch: SampleBatch) -> None:
        """Starts work on a batch. A batch without samples needs no work."""
        self._batches.append(batch)
        if batch.samples:
            self._graph.submit(batch.inputs(list(batch.samples)))

    def collect(self) -> Rendered:
        """The oldest batch; its errors include the samples that turn out to be bad."""
        began_s = time.perf_counter()
        batch = self._batches[0]
        outputs = None
        while batch.samples and outputs is None:
            try:
                outputs = self._graph.collect()
            except Exception as error:
                self._expel_bad_samples(error)
        self._batches.popleft()
        waited_s = time.perf_counter() - began_s
        # DALI does not report decoding and augmenting separately. The wait counts as decoding if
        # DALI decodes, because that takes longer.
        if self._decodes:
            batch.times += WorkTimes(decode_s=waited_s)
        else:
            batch.times += WorkTimes(augment_s=waited_s)
        return Rendered(
            plan=batch.plan,
            views=self._finished(outputs, batch),
            errors=batch.errors,
            times=batch.times,
        )

    def _expel_bad_samples(self, error: Exception) -> None:
        """Takes the bad samples out of the oldest batch, and starts all batches again."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # raises if the device itself has failed
        batches, batch = self._batches, self._batches[0]
        reasons = {b: self._fault(batch, b) for b in batch.samples}
        if not any(reasons.values()):
            raise error  # each sample works alone, so memory, the driver or the graph is the cause
        for b, reason in reasons.items():
            if reason:
                batch.errors[b] = DecodeError(reason)
                del batch.samples[b]
        self._graph = self._new_graph(self._depth)
        self._batches = deque()
        for again in batches:
            self.submit(again)

    def _fault(self, batch: SampleBatch, b: int) -> str:
        """Why the sample cannot be rendered even alone; empty if it can."""
        graph = self._new_graph(1)
        try:
            graph.submit(batch.inputs([b]))
            graph.collect()
        except Exception as error:
            return _reason(error)
        return ""

    def _finished(
        self, outputs: list[torch.Tensor] | None, batch: SampleBatch
    ) -> list[torch.Tensor]:
        """The views in the rows of the plan, 0 in other rows."""
        rows, num_rows = list(batch.samples), len(batch.plan.rows)
        is_full = len(rows) == num_rows
        if outputs is not None and is_full and self._views == DaliViews.OPERATORS:
            return outputs
        clip = (self._spec.num_frames, self._spec.size_px, self._spec.size_px, 3)
        views = [
            (torch.empty if is_full else torch.zeros)(
                (num_rows, len(group.offsets), *clip),
                dtype=getattr(torch, self._dtype),
                device=self._device,
            )
            for group in self._spec.groups
        ]
        if outputs is None:
            return views
        if self._views == DaliViews.KERNEL:
            from loaders.engines.dali.view_kernel import write_views  # Triton is not everywhere

            last = self._spec.normalization
            write_views(outputs, batch.inputs(rows), rows, views, last)
        else:
            for whole, part in zip(views, outputs, strict=True):
                whole[rows] = part
        return views


def _reason(error: Exception) -> str:
    """The line of DALI's report that says what happened."""
    text = str(error)
    first = text.rpartition("encountered:")[2].strip().partition("\n")[0]
    return first.partition(" failed: ")[2] or first or repr(error)
