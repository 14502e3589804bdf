"""The default values of the probes' arguments.

This module imports nothing, because the command line needs these values before it loads torch.
"""

DEFAULT_K = 20
"""The number of neighbours that vote."""
DEFAULT_TEMPERATURE = 0.07
"""The temperature of their weights."""
DEFAULT_L2 = 1e-3
"""The weight of the linear probe's penalty."""
