"""The loader beside the training: one more process, which reads, decodes and augments.

Python runs one thread of a process at a time. Threads of a loader in the training process would
therefore hold up the thread that launches the training's work.

Here: the process and how it is started and ends, its messages, the memory that it shares, and
`ProcessProducer`, the training's side of it.
Not here: what it does with a plan (`loaders.engines`), which loader uses it (`loaders.placement`).
"""
