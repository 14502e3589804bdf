"""Many videos to a finished folder: order, processes, crashes, resuming.

Here: `ingest`, the journal of an unfinished run, the workers on this machine or on a Ray cluster.
Not here: one video's encoding (`shards.encode`), or what the files look like (`shards.format`).
"""
