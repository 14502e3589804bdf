"""Shows what `shards`, `loaders` and `tb` log; only programs call `show`."""

import logging
import os

_PACKAGES = ("shards", "loaders", "tb")


def show() -> None:
    """Writes our packages' messages of level INFO and above to stderr, as plain lines.

    A second call changes nothing. If torchrun or srun started several processes, ranks
    other than 0 show only warnings and errors.
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
