"""The files of a finished folder of shards: what each one holds, how it is written and read.

Here: the row (`video`, `video_table`), the tar (`shard`), the packet index (`packets`,
`packet_index`), the manifest, dataset.json, and the skipped videos.
Not here: how a folder is made (`shards.ingestion`), or where it is stored (`shards.files`).
"""
