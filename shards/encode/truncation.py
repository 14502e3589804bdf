"""Whether a file is as long as its container says.

Only the outermost structure counts: RIFF chunks, MP4 boxes, the Matroska segment. The number of
frames in a header does not prove that a file is cut: the AVI headers of JHMDB promise 48 frames
where 40 are stored, but their outermost chunk ends with the file. Formats that may be cut anywhere
(MPEG-TS, MPEG-PS, FLV, Ogg) promise no length. Only decoding shows whether such a file is whole.
"""

import os
from pathlib import Path
from typing import BinaryIO

_MP4_BOXES = frozenset(
    b"ftyp moov mdat free skip wide moof mfra uuid meta sidx ssix styp pdin udta pnot".split()
)
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """How many bytes the container promises after the end of the file; 0 if none or unknown."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] == b"RIFF":
            end = _riff_end(file, size)
        elif start[4:8] in _MP4_BOXES:
            end = _mp4_end(file, size)
        elif start[:4] == _EBML_HEADER:
            end = _matroska_end(file)
        else:
            end = 0
    return max(0, end - size)


def _riff_end(file: BinaryIO, size: int) -> int:
    """The end of the last RIFF chunk; files above 1 GB have several (OpenDML)."""
    end = 0
    while end < size:
        file.seek(end)
        header = file.read(8)
        length = int.from_bytes(header[4:8], "little")
        # Interrupted recorders leave 0 or all ones. What follows the last chunk is padding.
        if header[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):
            break
        end += 8 + length
    return end


def _mp4_end(file: BinaryIO, size: int) -> int:
    """The end of the last top-level box of a known type."""
    end = 0
    while end < size:
        file.seek(end)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if header[4:8] not in _MP4_BOXES:
            break
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: the box extends to the end of the file, which may be cut off
            break
        end += length
    return end


def _matroska_end(file: BinaryIO) -> int:
    """The end of the segment; 0 for live recordings, which leave it open."""
    file.seek(len(_EBML_HEADER), os.SEEK_SET)
    header_length = _matroska_length(file)
    if header_length is None:
        return 0
    file.seek(header_length, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length = _matroska_length(file)
    return 0 if length is None else file.tell() + length


def _matroska_length(file: BinaryIO) -> int | None:
    """A variable-length integer (EBML, RFC 8794); None if all bits are 1 (unknown)."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    num_more = 8 - first[0].bit_length()
    value = first[0] & ((1 << (7 - num_more)) - 1)
    value = (value << (8 * num_more)) | int.from_bytes(file.read(num_more), "big")
    return None if value == (1 << (7 * (num_more + 1))) - 1 else value
