"""Frames of a stored video, from the packets that a packet index lists.

Here: decoders that stay open, with PyAV and in compiled code, and the planes that they give.
Not here: files without a packet index (`loaders.decode`), RGB (`loaders.yuv`).
"""
