"""Decoders of FFmpeg's libavcodec that compiled code can call, without PyAV in between.

The library is the one that PyAV has loaded. The places of the fields that are read and written are
those of the major versions below. Within a major version FFmpeg only appends fields, so the places
stay. With any other version there are no such decoders.
"""

import ctypes
import weakref
from functools import cache
from typing import Any

import av
import av.codec.context
import numpy as np

from shards.decode.packet_decoder import max_pixels
from shards.decode.packet_loop import Calls
from shards.format.packets import INDEXED_CODECS, Window

_MAJOR_VERSIONS = {"libavcodec": 62, "libavutil": 60}
_POINTER_BYTES = 8
# Bytes from the start of AVCodecParameters.
_EXTRADATA, _EXTRADATA_SIZE = 16, 24
_PADDING_BYTES = 64  # AV_INPUT_BUFFER_PADDING_SIZE

_pointer, _int, _text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
# Each function has a result and arguments:
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
    """libavcodec cannot decode this here, so PyAV has to. The message says why."""


class RefusedPacketError(UnusableError):
    """A packet does not give one good picture in compiled code. PyAV may say why."""


@cache
def unusable_library() -> str:
    """Why this library cannot be used; "" if it can. Without it, PyAV decodes every window."""
    try:
        _library()
    except UnusableError as error:
        return str(error)
    return ""


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
        # Some decoders, such as those of subtitles, would end the process at the first packet.
        if window.codec not in INDEXED_CODECS:
            raise UnusableError(f"{window.codec!r} is none of {', '.join(INDEXED_CODECS)}")
        library = _library()
        codec = _there(library.avcodec_find_decoder_by_name(window.codec.encode()))
        self.calls = _calls()
        self.context = self._owned(library.avcodec_alloc_context3(codec), "avcodec_free_context")
        self.packet = self._owned(library.av_packet_alloc(), "av_packet_free")
        self.spare, *frames = (
            self._owned(library.av_frame_alloc(), "av_frame_free") for _ in range(num_frames + 1)
        )
        self.frames = np.array(frames, np.int64)
        _set_extradata(self.context, window.byte_range.extradata)
        options = {b"threads": b"1", b"max_pixels": str(max_pixels(window.size)).encode()}
        for name, value in options.items():
            _succeed(library.av_opt_set(self.context, name, value, 0))
        _succeed(library.avcodec_open2(self.context, codec, None))

    def _owned(self, address: int | None, free: str) -> int:
        """An address that the library's function `free` gets when this object ends."""
        there = _there(address)
        owner = weakref.finalize(self, getattr(_library(), free), ctypes.byref(_pointer(there)))
        # Nothing is freed when Python ends, because a thread may still be decoding then.
        owner.atexit = False
        return there


def _set_extradata(context: int, extradata: bytes) -> None:
    library = _library()
    parameters = _pointer(_there(library.avcodec_parameters_alloc()))
    try:
        _succeed(library.avcodec_parameters_from_context(parameters, context))
        if extradata:
            # The library frees it.
            copy = _there(library.av_mallocz(len(extradata) + _PADDING_BYTES))
            ctypes.memmove(copy, extradata, len(extradata))
            begin = parameters.value or 0
            _pointer.from_address(begin + _EXTRADATA).value = copy
            _int.from_address(begin + _EXTRADATA_SIZE).value = len(extradata)
        _succeed(library.avcodec_parameters_to_context(context, parameters))
    finally:
        library.avcodec_parameters_free(ctypes.byref(parameters))


def _there(address: int | None) -> int:
    if not address:
        raise UnusableError("a decoder cannot be opened (FFmpeg has none, or no memory)")
    return address


def _succeed(result: int) -> None:
    if result < 0:
        raise UnusableError(f"a decoder cannot be opened (FFmpeg's error {result})")


@cache
def _calls() -> Calls:
    library = _library()
    names = ("avcodec_send_packet", "avcodec_receive_frame", "avcodec_flush_buffers")
    return Calls(*(ctypes.cast(getattr(library, name), _pointer).value or 0 for name in names))


@cache
def _library() -> Any:
    versions = {name: av.library_versions[name][0] for name in _MAJOR_VERSIONS}
    if versions != _MAJOR_VERSIONS or ctypes.sizeof(_pointer) != _POINTER_BYTES:
        found = ", ".join(f"{name} {version}" for name, version in versions.items())
        bits = 8 * ctypes.sizeof(_pointer)
        raise UnusableError(f"the places of fields are not known for {found} with {bits} bits")
    try:
        # The symbols of a library are also those of the libraries that it needs.
        library = ctypes.CDLL(av.codec.context.__file__)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UnusableError(f"PyAV's library cannot be called: {error}") from error
    return library
