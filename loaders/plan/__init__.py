"""All randomness: which video, which frames, which crop, which colours, as NumPy arrays.

Here: the views of each stage, the order of an epoch, and the draws. Pure functions of a seed.
Not here: pixels. What executes a plan is an engine (`loaders.engines`).
"""
