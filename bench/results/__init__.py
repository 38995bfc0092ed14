"""What is kept: the on-disk format of a run, its rows, its writer and its reader. Needs no PyTorch."""

from bench.results.machines import by_machine, check_one_machine, identity
from bench.results.store import (
    CASES,
    QUALITY,
    Record,
    Run,
    append,
    create,
    load,
    load_manifest,
    locked,
    new_folder,
    newest,
    read_json,
    repair,
    slug,
)
from bench.results.writing import UnwritableError, remedy, write_atomically, write_within

__all__ = [
    "CASES",
    "QUALITY",
    "Record",
    "Run",
    "UnwritableError",
    "append",
    "by_machine",
    "check_one_machine",
    "create",
    "identity",
    "load",
    "load_manifest",
    "locked",
    "new_folder",
    "newest",
    "read_json",
    "remedy",
    "repair",
    "slug",
    "write_atomically",
    "write_within",
]
