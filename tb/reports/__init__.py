"""What people look at: the report, tables and pictures of runs, contact sheets.

Here: HTML, SVG and PNG from what stages left in their folders.
Not here: measuring (`tb.evaluation`), the paper's tables (`tb.tables`).
"""
