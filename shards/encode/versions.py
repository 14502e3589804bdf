"""The versions of the libraries on which the encoded bytes depend."""

from importlib.metadata import PackageNotFoundError, version

import av


def library_versions() -> dict[str, str]:
    """Library -> version: this package, PyAV and libavcodec."""
    try:
        own = version("timebalance")
    except PackageNotFoundError:  # run from a source tree
        own = "unknown"
    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    return {"timebalance": own, "av": av.__version__, "libavcodec": libavcodec}
