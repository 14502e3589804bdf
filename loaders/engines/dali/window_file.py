"""A small MP4 file that holds only a window, because DALI's decoder never seeks.

DALI decodes every file from its first frame. From a window's file it decodes only the window. The
packets are copied as they are. The boxes before them (ISO/IEC 14496-12 and -15) are written here,
because this takes 0.2 ms, and a library's muxer takes several.
"""

import struct

import numpy as np

from shards.format.packets import Window

_UNITY_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
# Any rate will do, because frames are named by number.
_TIMESCALE, _FRAME_TICKS = 25_000, 1_000


# FFmpeg's name of a codec -> the sample entry in an MP4 file, and the box for the configuration.
_SAMPLE_ENTRIES: dict[str, tuple[bytes, bytes | None]] = {
    "h264": (b"avc1", b"avcC"),
    "hevc": (b"hvc1", b"hvcC"),
    "vp9": (b"vp09", None),
    "mjpeg": (b"jpeg", None),
}


def window_file(window: Window) -> bytes:
    """An MP4 file whose frame n is frame `window.byte_range.gop_frames[0] + n` of the video."""
    sizes = np.diff(window.byte_range.offsets)
    keyframes = (
        np.array(window.byte_range.gop_frames) - window.byte_range.gop_frames[0] + 1
    )  # MP4 counts from 1
    start = _box(b"ftyp", b"isom" + struct.pack(">I", 512) + b"isomiso2mp41")
    # The place where the pictures begin depends on the length of the boxes before them. That length
    # does not depend on the place, so it is found with place 0.
    length = len(start) + len(_moov(window, sizes, keyframes, 0)) + 8
    moov = _moov(window, sizes, keyframes, length)
    mdat = struct.pack(">I4s", 8 + len(window.data), b"mdat")
    return b"".join([start, moov, mdat, window.data])


def _sample_entry(window: Window) -> bytes:
    kind, configuration = _SAMPLE_ENTRIES[window.codec]
    height, width = window.size
    picture = struct.pack(">6xH16xHH", 1, width, height)
    # 72 dpi, one frame a sample, no name, 24 bits a pixel.
    rest = struct.pack(">IIIH32sHh", 0x480000, 0x480000, 0, 1, b"", 0x18, -1)
    box = b"" if configuration is None else _box(configuration, window.byte_range.extradata)
    return _box(kind, picture, rest, box)


def _moov(window: Window, sizes: np.ndarray, keyframes: np.ndarray, start: int) -> bytes:
    number, ticks = len(sizes), len(sizes) * _FRAME_TICKS
    height, width = window.size
    tables = [
        _full_box(b"stsd", struct.pack(">I", 1) + _sample_entry(window)),
        _full_box(b"stts", struct.pack(">3I", 1, number, _FRAME_TICKS)),
        _full_box(b"stss", struct.pack(">I", len(keyframes)) + keyframes.astype(">u4").tobytes()),
        _full_box(b"stsc", struct.pack(">4I", 1, 1, number, 1)),
        _full_box(b"stsz", struct.pack(">2I", 0, number) + sizes.astype(">u4").tobytes()),
        _full_box(b"stco", struct.pack(">2I", 1, start)),
    ]
    data_reference = _full_box(b"dref", struct.pack(">I", 1) + _full_box(b"url ", b"", flags=1))
    media = [
        _full_box(b"mdhd", struct.pack(">4IHH", 0, 0, _TIMESCALE, ticks, 0x55C4, 0)),
        _full_box(b"hdlr", struct.pack(">I4s12x", 0, b"vide") + b"\0"),
        _box(
            b"minf",
            _full_box(b"vmhd", bytes(8), flags=1),
            _box(b"dinf", data_reference),
            _box(b"stbl", *tables),
        ),
    ]
    track_header = struct.pack(">5I8xhhhh", 0, 0, 1, 0, ticks, 0, 0, 0, 0) + _UNITY_MATRIX
    return _box(
        b"moov",
        _full_box(
            b"mvhd",
            struct.pack(">4IIHH8x", 0, 0, _TIMESCALE, ticks, 0x10000, 0x100, 0)
            + _UNITY_MATRIX
            + struct.pack(">24xI", 2),
        ),
        _box(
            b"trak",
            _full_box(
                b"tkhd", track_header + struct.pack(">2I", width << 16, height << 16), flags=3
            ),
            _box(b"mdia", *media),
        ),
    )


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full_box(kind: bytes, content: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), content)
