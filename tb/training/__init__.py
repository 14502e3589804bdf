"""The training loop: one for every stage, and what it stands on.

Here: the loop, the optimiser, the learning rate, logs, several processes, resuming.
Not here: what a stage computes in a step (`tb.method`).
"""
