"""Many videos to a finished folder: order, processes, crashes, and going on after an interruption.

Here: `ingest`, the journal of an unfinished run, the workers on this machine or on a Ray cluster,
and what becomes of a video that does not decode (`job`).
Not here: encoding one video (`shards.encode`), or what the files look like (`shards.format`; the
list of the videos that are left out is in `skipped_jsonl`).
"""
