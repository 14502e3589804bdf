"""The GPU engine: NVDEC decodes, DALI augments; on a CPU the same graph proves it.

Here: the engine, its graph, the layout of its pipelines, and the limits of NVDEC.
Not here: the choice between this engine and others (`loaders.engines.choice`).
"""
