"""The paper's tables as grids of runs that several machines share.

Here: the published numbers, `tb reproduce`, the grids, their cost, the pages of results.
Not here: how one run is trained (`tb.workflow`).
"""
