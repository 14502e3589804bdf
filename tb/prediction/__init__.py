"""Answers for videos: a trained classifier, and its predictions for files and decoded frames.

Here: the classifier in a file, the clips that it is shown, its answers as CSV and JSON.
Not here: accuracy on a data set (`tb.evaluation`), pictures of answers (`tb.reports`).
"""
