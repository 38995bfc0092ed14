"""`python -m osgan` is the `osgan` command."""

from osgan.cli import main

main()
