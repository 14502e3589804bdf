"""The training engine: one loop for every stage, and what it stands on."""
