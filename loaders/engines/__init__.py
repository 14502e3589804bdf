"""Engines execute plans: encoded bytes in, views out. The same plan gives nearly the same pixels.

Here: the protocol, the choice among engines, their threads and memory, and `fused`, `dali` and
`reference`.
Not here: random draws and the order (`loaders.plan`), keys and labels (`loaders.batch`).
"""
