"""Networks: backbones, the projection head, the embedder and the classifier.

Here: what is built. Pure torch.
Not here: files of weights (`tb.weights`), losses (`tb.losses`).
"""
