"""A run's settings.

Here: every setting with its default and range, presets, `--set`, what a work folder remembers.
Not here: the presets themselves, which are YAML files in `tb/presets`.
"""
