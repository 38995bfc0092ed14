"""The rooms: imports point one way, and no module needs a table of contents."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "bench": [
        "child",  # a process of its own
        "suite",  # what is asked
        "results",  # what is kept
        "analysis",  # what is concluded
        "report",  # and shown
        "machine",  # what it runs on
        "probes",  # what is measured of an arm
        "arms",  # what takes steps
        "execution",  # how jobs get done
        "peers",
        "micro",
        "gate",
        "cli",
        "__main__",
    ],
    "osgan": ["", "nets", "data", "parallel", "metrics", "training", "distill", "commands", "__main__"],
}
"""From the first, which needs none of the others, to the last. osgan's own modules, the method, are the room ""."""


def room_of(package, module):
    """Return the room of a module `bench.results.store` or `osgan.losses`; None for the package's own __init__."""
    name = module.split(".")[1]
    if name in ROOMS[package]:
        return name
    return "" if package == "osgan" else None


def imports_of(file):
    """Yield the modules that a file imports, `from a import b` as a and as a.b, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_of(package):
    """Return the files of a package by the names of their modules, but for its lazy __init__."""
    files = (ROOT / package).rglob("*.py")
    found = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}
    found.pop(package)
    return found


def against_the_list(package, edges):
    """Return the imports that point from a room to a later one."""
    order = ROOMS[package]
    return [
        f"{module} imports {imported}"
        for module, imported in edges
        if (room_of(package, imported) or "") in order
        and order.index(room_of(package, module)) < order.index(room_of(package, imported))
    ]


@pytest.mark.parametrize("package", ROOMS)
def test_imports_point_one_way(package):
    modules = modules_of(package)
    edges = [(m, i) for m, file in modules.items() for i in imports_of(file) if i.startswith(f"{package}.")]
    assert {room_of(package, module) for module in modules} <= set(ROOMS[package])
    assert len(edges) > 50
    assert against_the_list(package, [(m, i) for m, i in edges if room_of(package, i) is not None]) == []


def test_an_import_against_the_list_is_seen():
    assert against_the_list("bench", [("bench.report.pages", "bench.execution.runner")])
    assert against_the_list("osgan", [("osgan.step", "osgan.training.loop")])
    assert not against_the_list("bench", [("bench.execution.runner", "bench.results.store")])


def test_osgan_knows_nothing_of_bench():
    assert [m for m, file in modules_of("osgan").items() if any(i.startswith("bench") for i in imports_of(file))] == []


def test_no_module_is_longer_than_300_lines():
    files = [file for package in ROOMS for file in (ROOT / package).rglob("*.py")]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: length for name, length in lengths.items() if length > 300} == {}
