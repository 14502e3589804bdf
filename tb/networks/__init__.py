"""The networks, untrained.

Here: backbones by name or by options; the projection head, the embedder and the classifier on them.
Not here: weights from files (`tb.weights`) and losses (`tb.losses`).
"""
