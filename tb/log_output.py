"""Where the libraries' messages go: `shards`, `loaders` and `tb` log, programs call `show`."""

import logging
import os

_PACKAGES = ("shards", "loaders", "tb")


def show() -> None:
    """Writes our packages' messages from INFO on to stderr, as plain lines.

    A second call changes nothing. Where torchrun or srun started several processes, only rank 0
    shows more than warnings.
    """
    is_main = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    for name in _PACKAGES:
        package = logging.getLogger(name)
        package.setLevel(logging.INFO if is_main else logging.WARNING)
        if not package.handlers:
            handler = logging.StreamHandler()  # stderr
            handler.setFormatter(logging.Formatter("%(message)s"))
            package.addHandler(handler)
            package.propagate = False
