"""What is kept: the on-disk format of a run, its rows, its writer and its reader. Needs no PyTorch."""

from bench.results.checks import Found, row_of
from bench.results.machines import by_machine, check_one_machine, differences, identity
from bench.results.manifest import Machine, Manifest
from bench.results.rows import AnyRow, Arm, CaseRow, QualityRow
from bench.results.store import (
    CASES,
    FORMAT_VERSION,
    QUALITY,
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
    "FORMAT_VERSION",
    "QUALITY",
    "AnyRow",
    "Arm",
    "CaseRow",
    "Found",
    "Machine",
    "Manifest",
    "QualityRow",
    "Run",
    "UnwritableError",
    "append",
    "by_machine",
    "check_one_machine",
    "create",
    "differences",
    "identity",
    "load",
    "load_manifest",
    "locked",
    "new_folder",
    "newest",
    "read_json",
    "remedy",
    "repair",
    "row_of",
    "slug",
    "write_atomically",
    "write_within",
]
