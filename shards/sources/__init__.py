"""Raw videos on disk: which ones there are, of which class, in which splits, under which key.

Here: class folders, tables, UCF101, HMDB51 and Kinetics-400. Only names and lists are read.
Not here: opening a video (`shards.encode`).
"""
