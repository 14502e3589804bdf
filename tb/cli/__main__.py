"""`python -m tb.cli`: what `tb` does."""

from tb.cli import main

main()
