"""Weights in files: checkpoints, stock state dicts, exports. Nothing is unpickled.

Here: writing, reading and checking such files.
Not here: when a checkpoint is written (`tb.training`).
"""
