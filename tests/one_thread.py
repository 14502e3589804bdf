"""Numeric libraries get one thread, here and in the processes that tests start.

The work is small, and threads that wait for each other would spin on cores that other tests need.
Import this before the libraries, which read the variables when they are loaded.
"""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
