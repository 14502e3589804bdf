"""Pages, tables and pictures for people.

Here: the report, what runs left in their folders, contact sheets of views and of a video's frames.
Not here: measuring (`tb.evaluation`), the paper's tables (`tb.tables`).
"""
