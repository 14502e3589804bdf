"""The demo: made-up videos through the whole method, in minutes.

Here: the generator of the videos, and the run.
Not here: any part of the method; the demo only calls it.
"""
