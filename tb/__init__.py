"""TimeBalance: the method, the training and the command line."""

__version__ = "0.1.0"
