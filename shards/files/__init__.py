"""Files on disk and behind URLs: written whole, locked, copied and named.

Here: publishing, the lock, the stores (local and remote), the cache of remote shards, Parquet, and
what this machine may lack (space, open files).
Not here: what the files mean (`shards.format`).
"""
