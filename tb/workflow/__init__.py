"""Which stage comes after which, and stages side by side in processes of their own.

Here: `run_stage`, `run_all`, the child processes.
Not here: what a stage does (`tb.method`).
"""
