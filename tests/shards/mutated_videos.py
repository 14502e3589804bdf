"""Bad videos by the hundred: real ones that are cut, bit-flipped, spliced, or lie about sizes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

Mutation = Callable[[bytes, bytes, Random], bytes]
"""(a video, another one, draws) -> a changed copy of the first one."""

# Names of boxes and chunks, beside which containers keep sizes and counts.
_NAMES = (
    # MP4 and MOV
    *(b"ftyp", b"moov", b"trak", b"mdat", b"tkhd", b"mdhd", b"stsd", b"stsz", b"stco", b"stts"),
    *(b"stsc", b"ctts", b"elst", b"avc1", b"avcC", b"hev1", b"vp09", b"mp4v", b"esds"),
    # AVI
    *(b"RIFF", b"LIST", b"avih", b"strh", b"strf", b"idx1", b"movi", b"00dc"),
    # Matroska: the identifiers of its header, segment, tracks, picture size, clusters and index
    *(b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xb0\x82", b"\xba\x82"),
    *(b"\x1f\x43\xb6\x75", b"\x1c\x53\xbb\x6b"),
)
_LIES = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
_HEAD_BYTES = 2048


def cut(video: bytes, other: bytes, draw: Random) -> bytes:
    """A download that was interrupted, or of which the beginning is lost."""
    place = draw.randrange(len(video))
    return draw.choice([video[:place], video[place:], video[: len(video) - 1 - place % 64]])


def flipped(video: bytes, other: bytes, draw: Random) -> bytes:
    """A few wrong bits, anywhere or in the header."""
    changed = bytearray(video)
    end = draw.choice([len(video), min(len(video), _HEAD_BYTES)])
    for _ in range(draw.choice([1, 4, 64])):
        changed[draw.randrange(end)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def hole(video: bytes, other: bytes, draw: Random) -> bytes:
    """A piece of zeros or noise, as a failing disk leaves it."""
    begin = draw.randrange(len(video))
    size = min(draw.choice([16, 512, 65_536]), len(video) - begin)
    filling = draw.choice([bytes(size), draw.randbytes(size)])
    return video[:begin] + filling + video[begin + size :]


def moved(video: bytes, other: bytes, draw: Random) -> bytes:
    """A piece that is missing or there twice, so that all after it lies elsewhere."""
    begin, end = sorted(draw.randrange(len(video)) for _ in range(2))
    return draw.choice([video[:begin] + video[end:], video[:end] + video[begin:]])


def swapped(video: bytes, other: bytes, draw: Random) -> bytes:
    """The header of another file before this one's content, or another file's content behind."""
    size = draw.choice([16, 512, 4096, draw.randrange(1, len(video))])
    return draw.choice([other[:size] + video[size:], other[:size] + video, video + other])


def lied(video: bytes, other: bytes, draw: Random) -> bytes:
    """Sizes and counts that are wrong, beside the name of a box or chunk."""
    changed = bytearray(video)
    for _ in range(draw.choice([1, 1, 3])):
        places = list(_places(changed))
        place = draw.choice(places or [draw.randrange(len(video))])
        at = max(0, place + draw.choice([-4, 4, 4, *range(8, 64, 4)]))
        size, order = draw.choice([2, 4, 4]), "big" if b"ftyp" in video[:16] else "little"
        before = int.from_bytes(changed[at : at + size], order)
        lie = draw.choice([*_LIES, before + 1, before * 2, before // 2]) % (1 << 8 * size)
        changed[at : at + size] = lie.to_bytes(size, order)
    return bytes(changed)


def _places(video: bytes | bytearray) -> Iterator[int]:
    """Where some of the names are."""
    for name in _NAMES:
        place = video.find(name)
        if place >= 0:
            yield place


MUTATIONS: tuple[Mutation, ...] = (cut, flipped, hole, moved, swapped, lied, lied)


def write_mutations(
    folder: Path, originals: Sequence[Path], num_files: int, seed: int = 0
) -> list[Path]:
    """Writes changed copies of the originals, each kind of change in turn; the same for a seed."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = [path.read_bytes() for path in originals]
    written = []
    for index in range(num_files):
        draw = Random(f"{seed} {index}")
        mutate = MUTATIONS[index % len(MUTATIONS)]
        number = draw.randrange(len(originals))
        other = draw.choice(contents)
        path = folder / f"{index:04d}-{mutate.__name__}-{originals[number].name}"
        path.write_bytes(mutate(contents[number], other, draw))
        written.append(path)
    return written
