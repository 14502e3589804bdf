"""A run's settings.

Here: the sections with their defaults and ranges, presets, `--set`, what a work folder remembers.
Not here: the presets themselves, which are YAML files in `tb/presets`.
"""
