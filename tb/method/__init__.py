"""TimeBalance and its baselines: what each stage trains, on which clips, with which loss.

Here: one file for each kind of stage, the teachers and their scores; `stages.py` lists all stages.
Not here: the formulas (`tb.losses`, `tb.similarity`), the loop (`tb.training`).
"""
