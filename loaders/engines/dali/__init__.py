"""The GPU engine: NVDEC decodes and DALI augments. On a CPU the same graph runs for tests.

Here: the engine, its graph, the kernel that can make the views, the layout of its pipelines, their
memory, and the limits of NVDEC.
Not here: the choice between this engine and others (`loaders.engines.choice`).
"""
