"""The order of the stages, and running them side by side in child processes.

Here: `run_stage`, `run_all`, the child processes.
Not here: what a stage does (`tb.method`).
"""
