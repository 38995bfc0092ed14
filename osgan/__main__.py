"""`python -m osgan` is the `osgan` command."""

from osgan.commands.cli import main

main()
