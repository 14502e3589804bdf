"""Files on disk and behind URLs: whole or not at all, locked, copied, named.

Here: publishing, the lock, stores (local, remote), the cache of remote shards, Parquet, file names.
Not here: what the files mean (`shards.format`).
"""
