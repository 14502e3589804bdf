"""Weights in files. Nothing is unpickled.

Here: checkpoints, state dicts of stock networks, exports, trained classifiers.
Not here: when a checkpoint is written (`tb.training`).
"""
