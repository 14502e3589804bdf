"""`python -m tb.cli` does what `tb` does."""

from tb.cli import main

main()
