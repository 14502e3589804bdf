"""One video file to the bytes that go into a shard.

Here: the recipe, the codecs, the probe, the picture filters, and the check that all of it decodes.
Not here: many videos at a time, processes and crashes (`shards.ingestion`).
"""
