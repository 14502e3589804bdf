"""What the DALI engine takes in memory, as arithmetic.

DALI frees the output of an operator when the next operators have read it. But it runs the same
operator of all views before the next one, so the float32 clips of all views are in memory twice: as
what an operator reads, and as what it writes. On a CPU the prediction differs by about 10 % from
what a process takes (see docs/dali.md).
"""

from dataclasses import dataclass

from loaders.engines.dali.layout import DaliLayout, DaliViews
from loaders.engines.memory import num_pictures, view_bytes
from loaders.plan.views import ViewSpec

# A decoder of DALI holds 8 RGB pictures. NVDEC's own surfaces are NV12; how many there are depends
# on the stream, up to 20.
_RGB_PICTURES, _SURFACES = 8, 10
_RGB_BYTES, _NV12_BYTES = 3.0, 1.5  # of a pixel


@dataclass(frozen=True, kw_only=True)
class SampleMemory:
    """Bytes of one video on its way from the decoder to the batch.

    Attributes:
        pictures: The decoded frames.
        views: The views in the batch.
        between: What the operators hold in between; nothing if the kernel makes the views.
    """

    pictures: float
    views: float
    between: float


def sample_memory(
    spec: ViewSpec, dtype: str, views: DaliViews | str, picture_px: float
) -> SampleMemory:
    """The memory of a video whose pictures have `picture_px` pixels."""
    done = view_bytes(spec, dtype)
    between = 0.0
    if views == DaliViews.OPERATORS:
        between = 2.0 * view_bytes(spec, "float32")
    return SampleMemory(
        pictures=num_pictures(spec) * picture_px * _RGB_BYTES, views=done, between=between
    )


def engine_bytes(
    spec: ViewSpec,
    *,
    dtype: str,
    layout: DaliLayout,
    picture_px: float,
    batch_size: int,
    num_decoding_threads: int,
) -> float:
    """Bytes of an engine at work, with the batch that its consumer has.

    Args:
        spec: The views.
        dtype: NumPy's name of the views' type.
        layout: The pipelines.
        picture_px: Pixels of a usual picture.
        batch_size: Videos of a batch.
        num_decoding_threads: Threads of all pipelines that decode on a GPU; 0 if none does.
    """
    sample = sample_memory(spec, dtype, layout.views, picture_px)
    held = layout.num_batches + 1  # finished batches, and the one of the consumer
    if layout.views == DaliViews.KERNEL:
        videos = held * sample.pictures + 2 * sample.views
    else:
        working = sample.pictures + sample.between
        videos = layout.num_pipelines * working + held * sample.views
    decoder = (_RGB_PICTURES * _RGB_BYTES + _SURFACES * _NV12_BYTES) * picture_px
    return batch_size * videos + num_decoding_threads * decoder
