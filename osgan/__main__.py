"""The `osgan` command, also as `python -m osgan`."""

import sys

from osgan.errors import MissingPackageError
from osgan.extras import needed


def main() -> None:
    """Run the command line; without the packages it needs, print one sentence with the line that installs them."""
    try:
        with needed("cli"):
            from osgan.commands import cli
    except MissingPackageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
