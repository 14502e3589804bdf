"""The CPU engine: from the decoder's planes to a view in one compiled pass.

Here: the resampling weights, the kernel, its vector code, and the call for one video.
Not here: decoding (`loaders.decode`), threads (`loaders.engines.threads`).
"""
