"""TimeBalance and its baselines: what each stage trains, on which clips, with which loss.

Here: stages, teachers, cached scores, baselines.
Not here: the formulas (`tb.losses`, `tb.similarity`), the loop (`tb.training`).
"""
