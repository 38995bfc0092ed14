"""Results that were damaged, or that somebody made: shown and written in every format, or refused in a sentence."""

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from bench import report, results
from bench.report import formats, terminal
from osgan.errors import InputError

FIXTURES = Path(__file__).parents[1] / "fixtures"
RUNS = sorted(path.parent for path in FIXTURES.glob("format-*/*/*/run.json"))
FILES = ("run.json", results.CASES, results.QUALITY)
NAMES = st.sampled_from(["\x1b[31m", "\u202e", "\x00", "../../x", "/etc/passwd", "$x$", "=1+1", "", "x" * 300, "<b>"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([10**400, -(10**30), 1e308, -1e308, 1e-308, 0.0, 1e15, 1e-9, 2**63])
    | NAMES
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def everything_of(folder, out):
    """Load a run and write all that can be made of it; returns what it says, None where it is refused."""
    try:
        run = results.load(folder)
        shown = shown_of(run)
    except InputError:
        return None
    try:
        page = report.write([run], out, out=out / "report")
        texts = [page.read_text(), page.with_name("report.md").read_text(), shown]
        texts += [formats.speedup_csv([run]), formats.speedup_latex([run])]
    except InputError:  # nothing was timed
        return shown
    for text in texts:
        assert not set(text) & set("\x00\x1b\u202e\u2066")
    return shown


def shown_of(run):
    """Return what a terminal shows of a run."""
    shown = io.StringIO()
    terminal.show(Console(file=shown, width=100), [run])
    return shown.getvalue()


def places_of(value, path=()):
    """Yield the path of everything within a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places_of(item, (*path, key))


def put(value, path, new, remove):
    """Replace or remove what stands at a path; returns the value."""
    if not path:
        return new
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if remove and isinstance(parent, dict):
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return value


def change_a_value(data, folder):
    file = folder / data.draw(st.sampled_from(sorted(name for name in FILES if (folder / name).is_file())))
    lines = [file.read_text()] if file.name == "run.json" else file.read_text().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    value = json.loads(lines[number])
    places = sorted(places_of(value), key=len)  # a deep place is as likely as one near the top
    depth = data.draw(st.integers(0, len(places[-1])))
    place = data.draw(st.sampled_from([path for path in places if len(path) == depth]))
    lines[number] = json.dumps(put(value, place, data.draw(VALUES), data.draw(st.booleans())))
    file.write_text("\n".join(lines) + "\n")


def damage_bytes(data, folder):
    file = folder / data.draw(st.sampled_from(sorted(name for name in FILES if (folder / name).is_file())))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    file.write_bytes(bytes(content[:cut]))


def double_a_line(data, folder):
    file = folder / results.CASES
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines, data.draw(st.sampled_from(lines))]))


def swap_a_file(data, folder):
    there = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    file = data.draw(st.sampled_from(there))
    file.unlink()
    kind = data.draw(st.sampled_from(["folder", "link", "dangling", "loop", "pipe", "gone"]))
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind != "gone":
        target = {"link": folder.parent / "secret", "dangling": "/nowhere/at/all", "loop": file.name}[kind]
        file.symlink_to(target)


DAMAGES = [change_a_value, change_a_value, damage_bytes, double_a_line, swap_a_file]


def examples(count):
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=checks)


def damaged(data, place):
    """Damage a copy of a run in some ways and make everything of it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "secret").write_text("SECRET")
    folder = place / "run"
    shutil.copytree(data.draw(st.sampled_from(RUNS)), folder)
    for file in (folder / name for name in (results.CASES, results.QUALITY) if (folder / name).is_file()):
        lines = file.read_text().splitlines(keepends=True)
        first = data.draw(st.integers(0, len(lines) - 1))
        file.write_text("".join(lines[first : first + 3]))  # a whole report takes seconds
    for _ in range(data.draw(st.integers(1, 3))):
        damage = data.draw(st.sampled_from(DAMAGES))
        if all(file.is_file() and file.stat().st_size for file in (folder / results.CASES, folder / "run.json")):
            try:
                damage(data, folder)
            except (ValueError, KeyError):  # what was damaged before is no JSON any more
                continue
    everything_of(folder, place)
    for file in (place / "report").rglob("*") if (place / "report").exists() else ():
        assert not file.is_symlink()
        assert file.is_dir() or b"SECRET" not in file.read_bytes()


@examples(40)
@given(data=st.data())
def test_a_damaged_run_is_shown_or_refused(data, tmp_path_factory):
    damaged(data, tmp_path_factory.getbasetemp() / "damaged")


@pytest.mark.slow
@examples(1000)
@given(data=st.data())
def test_a_run_damaged_in_a_thousand_ways_is_shown_or_refused(data, tmp_path_factory):
    damaged(data, tmp_path_factory.getbasetemp() / "damaged-often")


@pytest.fixture
def folder(tmp_path):
    source = next(FIXTURES.glob("format-2/everything/*"))
    return Path(shutil.copytree(source, tmp_path / "run"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("null", "Input should be an object"),
        ("[]", "Input should be an object"),
        ("{}", "name: Field required"),
        ('{"name": 3}', "name: Input should be a valid string"),
        ("[" * 100_000, "Invalid JSON: recursion limit exceeded"),
        ('{"a":' * 100_000, "Invalid JSON: recursion limit exceeded"),
        ("\x80", "Invalid JSON"),
        ("1" * 5000, "Invalid JSON: number out of range"),
    ],
)
def test_a_line_that_is_no_row_is_named_and_the_others_are_shown(folder, line, why):
    whole = results.load(folder)
    with (folder / results.CASES).open("a") as file:
        file.write(f"{line}\n")
    loaded = results.load(folder)
    assert loaded.rows == whole.rows
    assert f"cases.jsonl: line {len(whole.cases) + 1} is no row: " in loaded.remarks[0]
    assert why in loaded.remarks[0]
    assert "is no row: " in " ".join(shown_of(loaded).split())


def test_a_report_names_the_line_that_is_no_row(folder, tmp_path):
    with (folder / results.CASES).open("a") as file:
        file.write("null\n")
    assert "is no row: " in " ".join(everything_of(folder, tmp_path).split())
    assert "is no row: " in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "\udc80", '{"format": 1' + "0" * 5000 + "}"])
def test_a_manifest_that_cannot_be_read_is_refused_in_a_sentence(folder, content):
    (folder / "run.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"run\.json is not JSON"):
        results.load(folder)


def test_links_and_pipes_among_the_samples_are_left_out_and_named(folder, tmp_path):
    (tmp_path / "secret").write_text("SECRET")
    pictures = sorted((folder / "samples").rglob("*.png"))
    for picture, target in zip(pictures, (tmp_path / "secret", "/nowhere/at/all"), strict=False):
        picture.unlink()
        picture.symlink_to(target)
    (folder / "samples" / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "samples" / "pipe")
    loaded = results.load(folder)
    assert [remark.split(": ")[1] for remark in loaded.remarks] == ["is no plain file; a report leaves it out"] * 4
    assert everything_of(folder, tmp_path)
    copied = [path.name for path in (tmp_path / "report" / "samples").rglob("*") if path.is_file()]
    assert len(copied) == len(pictures) - 2
    assert "pipe" not in copied


def test_a_file_that_is_none_is_refused(folder):
    (folder / results.QUALITY).unlink()
    (folder / results.QUALITY).mkdir()
    with pytest.raises(InputError, match=r"quality\.jsonl is no file"):
        results.load(folder)
