"""Raw videos on disk: which there are, of which class, in which splits, under which key.

Here: class folders, tables, UCF101, HMDB51 and Kinetics-400.
Not here: opening a video (`shards.encode`). Nothing here reads more than names and lists.
"""
