"""Makes video files bad, or at least unusual."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from tests.make_videos import Paint, make_video


def zero_bytes(path: Path) -> Path:
    """An empty file."""
    path.write_bytes(b"")
    return path


def text(path: Path) -> Path:
    """A text with the name of a video."""
    path.write_text("This is not a video.\n" * 40)
    return path


def truncated(path: Path, share: float = 0.6) -> Path:
    """A download that was interrupted."""
    data = make_video(path).read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def audio_only(path: Path) -> Path:
    """A second of silence, no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        samples = np.zeros((1, 8000), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def boasting_avi(path: Path, num_promised: int = 300) -> Path:
    """An AVI whose headers promise `num_promised` frames, with 12 in it."""
    data = bytearray(make_video(path, num_frames=12, codec="mpeg4").read_bytes())
    for chunk, field in ((b"avih", 16), (b"strh", 32)):  # dwTotalFrames, dwLength
        start = data.index(chunk) + 8 + field
        assert int.from_bytes(data[start : start + 4], "little") == 12
        data[start : start + 4] = num_promised.to_bytes(4, "little")
    path.write_bytes(data)
    return path


def zeroed_middle(path: Path) -> Path:
    """The right length, but with a hole, as a failing disk or an unfinished torrent leaves it."""
    # With another preset, the hole would begin in another frame.
    data = bytearray(make_video(path, num_frames=60, options={"preset": "medium"}).read_bytes())
    start = data.index(b"mdat") + 3000
    data[start : start + 6000] = bytes(6000)
    path.write_bytes(data)
    return path


def no_frames(path: Path) -> Path:
    """A video stream in the header, but not one frame."""
    data = bytearray(make_video(path, num_frames=12, codec="mpeg4").read_bytes())
    start = data.index(b"movi") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "little") - 4
    # A chunk that readers skip replaces all frames, and there is no index.
    data[start : start + 8] = b"JUNK" + (size - 8).to_bytes(4, "little")
    path.write_bytes(data.replace(b"idx1", b"JUNK"))
    return path


def bomb(path: Path, side_px: int = 16_384) -> Path:
    """A GIF of a hundred bytes that decodes to pictures of 1 GB each."""
    size = side_px.to_bytes(2, "little") * 2
    header = b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    pixel = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    path.write_bytes(header + (b"\x21\xf9\x04\0\x04\0\0\0" + pixel) * 3 + b"\x3b")
    return path


def truncated_index(path: Path) -> Path:
    """An AVI without its index; only players need that."""
    data = make_video(path, num_frames=12, codec="mpeg4").read_bytes()
    start = data.index(b"idx1")
    length = (start - 8).to_bytes(4, "little")
    path.write_bytes(data[:4] + length + data[8:start])
    return path


def odd_metadata(path: Path, codec: str, title: bytes) -> Path:
    """A video with two titles of eight bytes, its own and that of its stream."""
    plain = make_video(
        path.with_name(f"plain-{path.name}"), num_frames=12, codec=codec, options={"bf": "0"}
    )
    placeholder = b"<title!>"
    assert len(title) == len(placeholder)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        target.metadata["title"] = placeholder.decode()
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.metadata["title"] = stream.metadata["handler_name"] = placeholder.decode()
        for packet in source.demux():
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    plain.unlink()
    data = path.read_bytes()
    assert data.count(placeholder) >= 2
    path.write_bytes(data.replace(placeholder, title))
    return path


def endless(path: Path) -> Path:
    """A frame a minute, and one after eleven days: filling the gaps takes minutes."""
    times = [*(60.0 * index for index in range(300)), 1e6]
    return make_video(path, num_frames=len(times), times=times)


def broken_clock(path: Path) -> Path:
    """Four frames whose clock jumps by 30 years: filling the gap would take days."""
    return make_video(path, num_frames=4, times=[0.0, 0.04, 0.08, 1e9])


def index_bomb(path: Path, num_promised: int) -> Path:
    """A small MP4 whose index promises frames of one byte, for each of which FFmpeg takes 60."""
    data = bytearray(make_video(path, num_frames=12, options={"bf": "0"}).read_bytes())
    # How many frames have the first duration, lie in the first chunk, and are there at all.
    for box, place in ((b"stts", 12), (b"stsc", 16), (b"stsz", 12)):
        start = data.index(box) + place
        assert int.from_bytes(data[start : start + 4], "big") == 12
        data[start : start + 4] = num_promised.to_bytes(4, "big")
    start = data.index(b"stsz") + 8  # the size of all frames, instead of a table
    data[start : start + 4] = (1).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def growing_bomb(path: Path) -> Path:
    """MJPEG in Matroska: four small pictures, then one of 36 megapixels under the same header."""
    small, large = _jpeg(96, 128), _jpeg(4400, 8192)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuvj420p"
        for index, data in enumerate([small] * 4 + [large]):
            _mux(container, stream, data, index)
    return path


def packed_b_frames(path: Path, paint: Paint, num_frames: int = 30) -> Path:
    """AVI as DivX and XviD write it: two pictures in one chunk, then a placeholder of one byte."""
    encoder = av.VideoCodecContext.create("mpeg4", "w")
    encoder.height, encoder.width, encoder.pix_fmt = 96, 128, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.max_b_frames, encoder.bit_rate = 1, 8_000_000
    pictures = []
    for index in range(num_frames):
        frame = av.VideoFrame.from_ndarray(paint(index), format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        pictures += [bytes(packet) for packet in encoder.encode(frame)]
    pictures += [bytes(packet) for packet in encoder.encode(None)]
    chunks: list[bytes] = []
    for data in pictures:
        is_b = data[data.index(b"\0\0\1\xb6") + 4] >> 6 == 2
        if is_b:
            chunks[-1] += data
        chunks.append(b"\x7f" if is_b else data)
    # Readers expect packed B-frames only if this program's name is there.
    start = chunks[0].index(b"\0\0\1\xb2")
    end = chunks[0].index(b"\0\0\1", start + 4)
    chunks[0] = chunks[0][:start] + b"\0\0\1\xb2DivX503b1393p" + chunks[0][end:]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for index, data in enumerate(chunks):
            _mux(container, stream, data, index)
    return path


def _jpeg(height: int, width: int) -> bytes:
    encoder = av.VideoCodecContext.create("mjpeg", "w")
    encoder.height, encoder.width, encoder.pix_fmt = height, width, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame(width, height, "yuvj420p")
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def _mux(container: OutputContainer, stream: VideoStream, data: bytes, index: int) -> None:
    packet = av.Packet(data)
    packet.pts = packet.dts = index
    packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, index == 0
    container.mux(packet)
