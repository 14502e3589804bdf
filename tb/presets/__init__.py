"""YAML presets for `--preset`."""
