"""Measures trained networks on held-out videos.

Here: accuracy, confusions, features, k-NN and linear probes, retrieval, the record of readings.
Not here: pages and tables for people (`tb.reports`).
"""
