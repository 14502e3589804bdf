"""The paper's tables: published numbers, grids of runs, result pages."""
