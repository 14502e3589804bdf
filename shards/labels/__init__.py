"""Which videos keep their labels.

Here: seeded, nested label fractions, and lists of labelled videos in the public formats.
Not here: which class a video has (`shards.sources` decides that).
"""
