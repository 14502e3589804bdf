"""A finished folder of shards, file by file: what each file holds, how it is written and read.

Here: the tar (`shard`), the rows and the data set (`manifest`), the list of what was left out.
Not here: how a folder comes to be (`shards.ingestion`), or where it is stored (`shards.files`).
"""
