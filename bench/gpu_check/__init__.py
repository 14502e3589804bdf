"""Checks and measures on a GPU what cannot be run without one, in minutes: see `__main__`.

Here: the steps, each a list of cells; the processes that run them; the files of what they find; the
report. Not here: what is measured (`loaders`, `tb`, and the other modules of `bench`).
"""
