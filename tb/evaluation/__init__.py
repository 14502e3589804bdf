"""What a trained network is worth on held-out videos.

Here: accuracy, features, k-NN and linear probes, retrieval, and the record of who read which split.
Not here: pages and pictures for people (`tb.reports`).
"""
