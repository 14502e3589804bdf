"""The training loop, which is the same for every stage, and its parts.

Here: the loop, the optimizer, the learning rate, logs, several processes, resuming.
Not here: what a stage computes in a step (`tb.method`).
"""
