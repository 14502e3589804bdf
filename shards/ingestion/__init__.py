"""Many videos to a finished folder: order, processes, crashes, and going on after an interruption.

Here: `ingest`, the journal of an unfinished run, the workers on this machine or on a Ray cluster.
Not here: encoding one video (`shards.encode`), or what the files look like (`shards.format`; videos
that do not decode are in `skipped`).
"""
