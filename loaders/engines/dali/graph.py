"""A stage's DALI graph, from encoded bytes and a plan's arrays to views. Only this file uses DALI.

The graph is the same on both devices; only the place where its nodes run differs. One video is one
sample and is decoded once. Each view is a branch. It takes its frames by number, cuts its crop,
resizes with antialiasing and mirrors in the same step, and then applies one colour matrix, a clip,
gamma and erased rectangles. The views are stacked by group, so they lie in memory as in a batch.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from nvidia.dali import Pipeline, backend, fn, types
from nvidia.dali import math as dali_math
from torch.utils.dlpack import from_dlpack

from loaders.plan.views import Augment, ViewSpec

# The codecs that DALI decodes on the CPU. Its FFmpeg is built without the others.
CPU_CODECS = frozenset({"vp8", "vp9", "mjpeg"})
# The operators that a view passes, in their order, and the inputs that each needs in addition. A
# view passes the last three only if it needs them.
OPERATORS = {
    "decode": ("data", "frames"),
    "frames": ("place",),
    "crop": ("crop",),
    "resize": ("region",),
    "colour": ("color",),
    "gamma": ("gamma",),
    "erase": ("erase",),
    "normalize": (),
}
_DTYPES = {"float16": types.FLOAT16, "uint8": types.UINT8}

# The inputs of a graph, N samples of each:
#   data     N files of uint8, or N (F, H, W, 3) uint8 RGB pictures where DALI does not decode
#   frames   N (F,) int32 frame numbers, ascending
#   place    (N, V, T) int32 indices into `frames`
#   crop     (N, V, 2, 2) int32: (y, x) of a view's corner, then its extents, in pixels
#   flip     (N, V) bool, whether the view is mirrored; for the kernel
#   region   (N, V, 2, 2) float32: all of the crop, backwards where it is mirrored: (y, x) of the
#            start, then of the end
#   color    (N, V, 3, 4) float32: RGB in [0, 255] to [0, 1]
#   gamma    (N, V) float32
#   erase    (N, V, 2, 2E) float32: E corners (y, x), then E extents, in output pixels
Inputs = Mapping[str, Any]


class Graph:
    """A built graph and the samples in it. After an error in a method it cannot be used."""

    def __init__(
        self,
        spec: ViewSpec,
        *,
        dtype: str,
        device: torch.device,
        decodes: bool,
        batch_size: int,
        num_threads: int,
        depth: int,
        until: str | None = None,
    ) -> None:
        """Builds the graph for up to `depth` times `batch_size` samples at once.

        With `until`, one of `OPERATORS`, it ends after that operator of the first view.
        """
        self._device, self._until = device, until
        self._names = _input_names(spec, decodes, until)
        self._fed: deque[tuple[Any, ...]] = deque()
        self._running: deque[Inputs] = deque()  # DALI reads that memory until the views are out
        on_gpu = device.type == "cuda"
        self._pipeline = Pipeline(
            batch_size=batch_size,
            num_threads=num_threads,
            device_id=_index(device) if on_gpu else None,
            prefetch_queue_depth=depth,
        )
        with self._pipeline:
            nodes = fn.external_source(
                source=_source(self._fed),
                num_outputs=len(self._names),
                layout=["FHWC" if name == "data" and not decodes else "" for name in self._names],
                no_copy=True,
            )
            inputs = dict(zip(self._names, nodes, strict=True))
            inputs["data"] = _window(inputs, on_gpu, decodes)
            outputs = (
                _outputs(spec, dtype, on_gpu, inputs)
                if until is None
                else [_part(spec, until, on_gpu, inputs)]
            )
            self._pipeline.set_outputs(*outputs)
        self._pipeline.build()

    def submit(self, inputs: Inputs) -> None:
        """Starts work on N samples; at most `depth` calls may be ahead of those of `collect`."""
        self._fed.append(tuple(inputs[name] for name in self._names))
        self._running.append(inputs)
        # DALI fills its queue at the first run, and it treats an empty source as the end of the
        # epoch. The reset makes it ask again, so each call here runs only its own samples.
        self._pipeline.reset()
        self._pipeline.schedule_run()

    def collect(self) -> list[torch.Tensor]:
        """What the graph made of the oldest samples, without a copy.

        A whole graph gives one (N, V, T, S, S, 3) tensor for each group of views. A graph that ends
        after "decode" gives one (F, H, W, 3) uint8 RGB tensor for each sample. For other values of
        `until` use `drop`. On a GPU the tensors belong to the current stream: work launched there
        sees them finished.
        """
        on_gpu = self._device.type == "cuda"
        with torch.cuda.device(self._device) if on_gpu else nullcontext():
            stream = torch.cuda.current_stream() if on_gpu else None
            outputs = self._pipeline.outputs(cuda_stream=stream)
            self._running.popleft()
            if self._until == "decode":
                return [from_dlpack(pictures) for pictures in outputs[0]]
            return [from_dlpack(output.as_tensor()) for output in outputs]

    def drop(self) -> None:
        """Waits for the oldest samples, and throws their results away."""
        self._pipeline.outputs()
        self._running.popleft()


def return_unused_memory() -> None:
    """Gives back the unused memory in DALI's pools, which would keep it otherwise."""
    backend.ReleaseUnusedMemory()  # type: ignore[attr-defined]


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _source(fed: deque[tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
    def source() -> tuple[Any, ...]:
        if not fed:
            raise StopIteration
        return fed.popleft()

    return source


def _input_names(spec: ViewSpec, decodes: bool, until: str | None) -> tuple[str, ...]:
    """The names of the inputs that are used, because DALI warns of the others."""
    unused = set() if decodes else {"frames"}
    unused |= set() if any(augment.gamma_p for augment in spec.augments) else {"gamma"}
    unused |= set() if any(augment.num_erase for augment in spec.augments) else {"erase"}
    names: list[str] = []
    for operator, inputs in OPERATORS.items():
        names += [name for name in inputs if name not in unused]
        if operator == until:
            break
    return tuple(names)


def _window(inputs: Inputs, on_gpu: bool, decodes: bool) -> Any:
    """N (F, H, W, 3) uint8 RGB pictures, on the device."""
    if not decodes:  # on the CPU only
        return inputs["data"]
    return fn.decoders.video(
        inputs["data"],
        device="mixed" if on_gpu else "cpu",
        frames=inputs["frames"],
        pad_mode="none",  # a missing frame is an error, not a black picture
        affine=False,  # otherwise the threads of all pipelines share the same few cores
    )


def _outputs(spec: ViewSpec, dtype: str, on_gpu: bool, inputs: Inputs) -> list[Any]:
    outputs, first = [], 0
    for group, augment in zip(spec.groups, spec.augments, strict=True):
        numbers = range(first, first + len(group.offsets))
        first = numbers.stop
        # The type comes before the stack, because the stack copies.
        views = (_typed(_view(spec, augment, v, on_gpu, inputs), dtype) for v in numbers)
        outputs.append(fn.stack(*views))
    return outputs


def _typed(view: Any, dtype: str) -> Any:
    if dtype == "float32":
        return view
    return fn.cast(view * 255.0 if dtype == "uint8" else view, dtype=_DTYPES[dtype])


def _view(spec: ViewSpec, augment: Augment, v: int, on_gpu: bool, inputs: Inputs) -> Any:
    """View `v`: N (T, S, S, 3) float32 in [0, 1], or normalised."""
    *_, (_, clip) = _operators(spec, augment, v, on_gpu, inputs)
    return clip


def _part(spec: ViewSpec, until: str, on_gpu: bool, inputs: Inputs) -> Any:
    """What comes out of one of `OPERATORS` for the first view."""
    if until == "decode":
        return inputs["data"]
    steps = _operators(spec, spec.augments[0], 0, on_gpu, inputs)
    return next(clip for name, clip in steps if name == until)


def _operators(
    spec: ViewSpec, augment: Augment, v: int, on_gpu: bool, inputs: Inputs
) -> Iterator[tuple[str, Any]]:
    """The name and the result of each operator of view `v`."""
    clip = fn.sequence_rearrange(inputs["data"], new_order=inputs["place"][v])
    yield "frames", clip
    # The crop is cut first, because resizing a region would also read the pixels around it.
    corner, extent = inputs["crop"][v, 0], inputs["crop"][v, 1]
    clip = fn.slice(clip, start=corner, shape=extent, axis_names="HW")
    yield "crop", clip
    clip = fn.resize(
        clip,
        roi_start=inputs["region"][v, 0],
        roi_end=inputs["region"][v, 1],
        size=[spec.size_px, spec.size_px],
        interp_type=types.INTERP_LINEAR,
        antialias=True,
        dtype=types.FLOAT,
    )
    yield "resize", clip
    clip = dali_math.clamp(fn.coord_transform(clip, MT=inputs["color"][v]), 0.0, 1.0)
    yield "colour", clip
    if augment.gamma_p:
        gamma = inputs["gamma"][v]
        clip = clip ** (gamma.gpu() if on_gpu else gamma)
        yield "gamma", clip
    if augment.num_erase:
        corners, extents = inputs["erase"][v, 0], inputs["erase"][v, 1]
        clip = fn.erase(clip, anchor=corners, shape=extents, axis_names="HW")
        yield "erase", clip
    if spec.normalization is not None:
        mean, std = spec.normalization.mean, spec.normalization.std
        clip = fn.crop_mirror_normalize(clip, mean=mean, std=std, output_layout="FHWC")
        yield "normalize", clip
