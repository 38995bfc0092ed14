import base64
import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench import report, results
from bench.report import html
from bench.report.document import Cell, Document, Figure, Pictures, Row, Section, Table, Text
from bench.report.formats import table_csv
from bench.report.pages import document

HERE = Path(__file__).parents[1]
RUN = next(HERE.glob("fixtures/format-1/verdicts/*"))
WHOLE = next(HERE.glob("fixtures/format-2/everything/*"))
OTHER = next(HERE.glob("fixtures/format-2/another-machine/*"))

HOSTILE = """</style></script><script>alert("x")</script><img src=x onerror='alert(1)'> & "quoted" 'single'"""
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
VOID = {"meta", "img", "wbr", "input", "br", "link"}


class Page(HTMLParser):
    """The parts of a page that the tests look at, and whether its elements nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.links, self.open, self.texts = [], {}, {}, [], []
        self.rows = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a":
            self.links[attributes.get("download", attributes["href"])] = attributes["href"]
        elif tag == "div" and attributes.get("class") == "table":
            self.rows = self.tables[attributes["id"]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append([attributes.get("data-value"), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1][1] += text
        elif text.strip() and not {"style", "script"} & set(self.open):
            self.texts.append(text.strip())

    def decoded(self, download):
        return base64.b64decode(self.links[download].partition("base64,")[2]).decode()


def tables_of(found):
    blocks = [block for section in found.sections for block in section.blocks]
    standing = [block for block in blocks if isinstance(block, Table)]
    names = {table.name for table in standing}
    return standing + [b.table for b in blocks if isinstance(b, Figure) and b.table.name not in names]


@pytest.fixture(scope="module", params=[(RUN,), (WHOLE,), (WHOLE, OTHER)], ids=["old", "whole", "merged"])
def real(request, tmp_path_factory):
    """A report's document, and its page as text."""
    runs = [results.load(path) for path in request.param]
    page = report.write(runs, tmp_path_factory.mktemp("report"))
    return document(runs), page.read_text()


def test_every_table_says_what_the_document_says_totals_last(real):
    found, text = real
    page = Page(text)
    assert set(page.tables) == {table.name for table in tables_of(found)}
    for table in tables_of(found):
        heads, *rows = page.tables[table.name]
        assert [head for _, head in heads] == list(table.columns)
        ordered = sorted(table.rows, key=lambda row: row.total)
        assert [[text for _, text in row] for row in rows] == [
            [f"{cell.text} {cell.note}" if cell.note else cell.text for cell in row.cells] for row in ordered
        ]
        values = [[None if cell.value is None else str(cell.value) for cell in row.cells] for row in ordered]
        assert [[value for value, _ in row] for row in rows] == values


def test_every_table_and_every_figure_can_be_downloaded(real):
    found, text = real
    page = Page(text)
    for table in tables_of(found):
        assert page.decoded(f"{table.name}.csv") == table_csv(table)
        (heads, *rows) = csv.reader(io.StringIO(table_csv(table)))
        assert len(heads) == len(table.columns)
        assert len(rows) == len(table.rows)
    figures = [block for section in found.sections for block in section.blocks if isinstance(block, Figure)]
    shown = [attributes for tag, attributes in page.tags if tag == "figure" and attributes.get("class") == "figure"]
    assert [figure.name for figure in figures] == [attributes["data-name"] for attributes in shown]


def test_the_page_holds_the_verdict_all_text_and_a_way_to_every_section(real):
    found, text = real
    page = Page(text)
    said = [*found.verdict, *(s.title for s in found.sections)]
    for block in (block for section in found.sections for block in section.blocks if isinstance(block, Text)):
        said += [*block.paragraphs, *block.items, *([block.code.strip()] if block.code else [])]
    shown = ["".join(text.split()) for text in page.texts]
    assert [line for line in said if "".join(line.split()) not in shown] == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in page.links.values() if href.startswith("#")} <= set(ids)


def test_the_page_needs_nothing_from_outside_and_forbids_it(real):
    found, text = real
    raw = {path for s in found.sections for b in s.blocks if isinstance(b, Text) for _, path in b.links}
    outside = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)', text)
    assert set(outside) == raw  # files beside the page, which it does without
    policy = next(a["content"] for tag, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_numbers_are_those_of_the_golden_file(tmp_path):
    # a wanted change: write what `lines` is here to golden/report-numbers.txt, and read it
    page = Page(report.write([results.load(RUN)], tmp_path).read_text())
    lines = []
    for name, rows in page.tables.items():
        if name != "machine-facts":
            lines += [name, *(" | ".join(text for _, text in row) for row in rows), ""]
    assert "\n".join(lines) == (HERE / "golden" / "report-numbers.txt").read_text()


@pytest.fixture
def hostile(tmp_path):
    """A page in which every name that could come from a suite is an attack."""
    (tmp_path / "figure.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "sample.png").write_bytes(PIXEL)
    rows = [
        Row([Cell(HOSTILE, HOSTILE, HOSTILE), Cell("1.5", 1.5)]),
        Row([Cell(HOSTILE, HOSTILE), Cell("9", 9.0)], total=True),
    ]
    table = Table("table", HOSTILE, [HOSTILE, "number"], rows, HOSTILE)
    other = Table("other", HOSTILE, [HOSTILE, "number"], rows, HOSTILE, folded=True)
    blocks = [
        *(table, Figure("figure", HOSTILE, HOSTILE, table), Figure("figure", HOSTILE, HOSTILE, other)),
        Pictures(HOSTILE, [(HOSTILE, "sample.png")]),
        Text([HOSTILE], [HOSTILE], HOSTILE, [(HOSTILE, "run 1/cases.jsonl")]),
    ]
    sections = [Section("section", HOSTILE, blocks), Section("empty", "nothing to see", [])]
    return html.render(Document(HOSTILE, [HOSTILE], sections), tmp_path)


def test_names_from_suites_are_text_everywhere(hostile):
    page = Page(hostile)
    assert hostile.count("<script") == hostile.count("</style>") == 1
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    said = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert said == [HOSTILE, HOSTILE, f"{HOSTILE}: {HOSTILE}"]
    assert page.tables["table"][1] == [[HOSTILE, f"{HOSTILE} {HOSTILE}"], ["1.5", "1.5"]]
    assert "run%201/cases.jsonl" in page.links.values()


def test_an_empty_section_and_a_table_that_stands_already_are_not_repeated(hostile):
    page = Page(hostile)
    assert "nothing to see" not in hostile
    assert [tag for tag, _ in page.tags].count("table") == 2
    assert "#table" in page.links.values()


def test_missing_values_have_none_and_columns_of_numbers_are_to_the_right(tmp_path):
    rows = [Row([Cell("a", "a"), Cell("-"), Cell("1.0", 1.0)]), Row([Cell("b", "b"), Cell("2", 2), Cell("x", "x")])]
    table = Table("table", "title", ["name", "number", "mixed"], rows)
    text = html.render(Document("title", [], [Section("s", "s", [table])]), tmp_path)
    assert '<td class="number">-</td>' in text
    assert '<td class="number" data-value="2">2</td>' in text
    assert '<td data-value="1.0">1.0</td>' in text
