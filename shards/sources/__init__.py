"""Which raw videos are on disk, with their classes, splits and keys.

Here: class folders, tables, UCF101, HMDB51 and Kinetics-400. Only names and lists are read.
Not here: opening a video (`shards.encode`).
"""
