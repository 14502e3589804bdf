"""Decoders of FFmpeg's libavcodec that compiled code can call, without PyAV in between.

The library is the one that PyAV has loaded. The places of the fields that are read and written are
those of the major versions below. Within a major version FFmpeg only appends fields, so the places
stay. With any other version there are no such decoders.
"""

import ctypes
import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import av
import av.codec.context
import numpy as np

from shards.format.packet_index import Window
from shards.packet_decoder import max_pixels

_MAJOR_VERSIONS = {"libavcodec": 62, "libavutil": 60}
# Bytes from the begin of AVCodecParameters.
_EXTRADATA, _EXTRADATA_SIZE = 16, 24
_PADDING_BYTES = 64  # AV_INPUT_BUFFER_PADDING_SIZE

_pointer, _int, _text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
# The result and the arguments of each function.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "av_frame_alloc": (_pointer, []),
    "av_frame_free": (None, [_pointer]),
    "av_mallocz": (_pointer, [ctypes.c_size_t]),
    "av_opt_set": (_int, [_pointer, _text, _text, _int]),
    "av_packet_alloc": (_pointer, []),
    "av_packet_free": (None, [_pointer]),
    "avcodec_alloc_context3": (_pointer, [_pointer]),
    "avcodec_find_decoder_by_name": (_pointer, [_text]),
    "avcodec_flush_buffers": (None, [_pointer]),
    "avcodec_free_context": (None, [_pointer]),
    "avcodec_open2": (_int, [_pointer, _pointer, _pointer]),
    "avcodec_parameters_alloc": (_pointer, []),
    "avcodec_parameters_free": (None, [_pointer]),
    "avcodec_parameters_from_context": (_int, [_pointer, _pointer]),
    "avcodec_parameters_to_context": (_int, [_pointer, _pointer]),
    "avcodec_receive_frame": (_int, [_pointer, _pointer]),
    "avcodec_send_packet": (_int, [_pointer, _pointer]),
}


class UnusableError(Exception):
    """No decoder can be opened; the message says why."""


class Calls(NamedTuple):
    """The addresses of the functions that compiled code calls."""

    send_packet: int
    receive_frame: int
    flush_buffers: int


class OpenDecoder:
    """A decoder for windows of one codec, configuration and picture size.

    Attributes:
        calls: The functions of its library.
        context: The address of its AVCodecContext.
        packet: The address of an AVPacket that owns no data.
        frames: (N,) int64, the addresses of N AVFrames. They own the pictures that they hold, until
            the decoder is used or freed.
        spare: The address of one more AVFrame, for pictures that nobody wants.
    """

    def __init__(self, window: Window, num_frames: int) -> None:
        """Opens a decoder.

        Args:
            window: What it will decode.
            num_frames: N, how many pictures are held at a time.

        Raises:
            UnusableError: The library cannot be used, or has no such decoder.
        """
        library = _library()
        codec = library.avcodec_find_decoder_by_name(window.codec.encode())
        if not codec:
            raise UnusableError(f"there is no decoder of the name {window.codec}")
        self.calls = _calls()
        self.context: int = library.avcodec_alloc_context3(codec)
        self.packet: int = library.av_packet_alloc()
        self.frames = np.array([library.av_frame_alloc() for _ in range(num_frames)], np.int64)
        self.spare: int = library.av_frame_alloc()
        frames = [*self.frames.tolist(), self.spare]
        # Not when Python ends: a thread may still be decoding then.
        weakref.finalize(self, _free, self.context, self.packet, frames).atexit = False
        _set_extradata(self.context, window.byte_range.extradata)
        options = {b"threads": b"1", b"max_pixels": str(max_pixels(window.size)).encode()}
        for name, value in options.items():
            _succeed(library.av_opt_set(self.context, name, value, 0))
        _succeed(library.avcodec_open2(self.context, codec, None))


def _set_extradata(context: int, extradata: Sequence[int]) -> None:
    library = _library()
    parameters = _pointer(library.avcodec_parameters_alloc())
    try:
        _succeed(library.avcodec_parameters_from_context(parameters, context))
        if extradata:
            # The library frees it.
            copy = library.av_mallocz(len(extradata) + _PADDING_BYTES)
            ctypes.memmove(copy, bytes(extradata), len(extradata))
            begin = parameters.value or 0
            _pointer.from_address(begin + _EXTRADATA).value = copy
            _int.from_address(begin + _EXTRADATA_SIZE).value = len(extradata)
        _succeed(library.avcodec_parameters_to_context(context, parameters))
    finally:
        library.avcodec_parameters_free(ctypes.byref(parameters))


def _succeed(result: int) -> None:
    if result < 0:
        raise UnusableError(f"a decoder cannot be opened (FFmpeg's error {result})")


def _free(context: int, packet: int, frames: Sequence[int]) -> None:
    library = _library()
    library.avcodec_free_context(ctypes.byref(_pointer(context)))
    library.av_packet_free(ctypes.byref(_pointer(packet)))
    for frame in frames:
        library.av_frame_free(ctypes.byref(_pointer(frame)))


@cache
def _calls() -> Calls:
    library = _library()
    names = ("avcodec_send_packet", "avcodec_receive_frame", "avcodec_flush_buffers")
    return Calls(*(ctypes.cast(getattr(library, name), _pointer).value or 0 for name in names))


@cache
def _library() -> Any:
    versions = {name: av.library_versions[name][0] for name in _MAJOR_VERSIONS}
    if versions != _MAJOR_VERSIONS:
        found = ", ".join(f"{name} {version}" for name, version in versions.items())
        raise UnusableError(f"the places of fields are not known for {found}")
    # The symbols of a library are also those of the libraries that it needs.
    library = ctypes.CDLL(av.codec.context.__file__)
    for name, (result, arguments) in _FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise UnusableError(f"PyAV's library has no function {name}") from error
        function.restype, function.argtypes = result, arguments
    return library
