"""Ways for a video file to be bad."""

from pathlib import Path

from tests.make_videos import make_video


def zero_bytes(path: Path) -> Path:
    """An empty file."""
    path.write_bytes(b"")
    return path


def text(path: Path) -> Path:
    """Words under a video's name."""
    path.write_text("This is not a video.\n" * 40)
    return path


def truncated(path: Path, share: float = 0.6) -> Path:
    """A download that broke off."""
    data = make_video(path).read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def audio_only(path: Path) -> Path:
    """A second of silence, no picture."""
    import av
    import numpy as np

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
    """The right length, but a hole: what a failing disk or an unfinished torrent leaves."""
    data = bytearray(make_video(path, num_frames=60).read_bytes())
    start = data.index(b"mdat") + 3000
    data[start : start + 6000] = bytes(6000)
    path.write_bytes(data)
    return path
