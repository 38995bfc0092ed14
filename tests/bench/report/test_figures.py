import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

from bench.report import document
from bench.report.bar_figures import CASES_A_FIGURE, PHASE_COLOURS, pages
from bench.report.columns import columns_of
from bench.report.figures import COLOURS, lines_of
from bench.report.heat_map import text_colour
from bench.report.pages import document as document_of
from bench.report.scaling import series_of
from tests.bench.report.test_pages import OTHER, RUN, WHOLE, load, table, tables_of
from tests.bench.rows import with_


@pytest.mark.parametrize("runs", [(RUN,), (WHOLE,), (WHOLE, OTHER)])
def test_every_figure_is_a_file_with_a_table_of_its_own(runs, written):
    found = document_of(load(*runs))
    figures = [b for section in found.sections for b in section.blocks if isinstance(b, document.Figure)]
    names = [table.name for table in tables_of(found)]
    assert len(names) == len(set(names))
    folder = written(*runs)
    assert sorted(f"{figure.name}.svg" for figure in figures) == sorted(path.name for path in folder.glob("*.svg"))
    for path in folder.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert float(root.attrib["width"].removesuffix("pt")) <= 340  # points, of which a telephone has 270
        background = root.find(".//{*}g[@id='patch_1']/{*}path")
        assert "fill: #ffffff" in background.attrib["style"]
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", path.read_text())]
        assert min(sizes) >= 9


def numbers_in(path):
    """Return the numbers written beside a figure's bars; those of its axis have fewer digits or are known."""
    texts = [element.text for element in ElementTree.parse(path).getroot().findall(".//{*}text")]
    ticks = [f"{tick / 4:.2f}" for tick in range(8)]
    return [text for text in texts if re.fullmatch(r"[\d,]+\.\d+( ~)?", text or "") and text not in ticks]


def test_the_bars_bear_the_numbers_of_their_tables(written):
    folder, found = written(WHOLE), document_of(load(WHOLE))
    speedups = [row.cells[3].value for row in table(found, "measured-and-ceiling-numbers").rows]
    shown = [text.removesuffix(" ~") for text in numbers_in(folder / "measured-and-ceiling.svg")]
    assert shown == [text for s in speedups if s is not None and (text := f"{s:.2f}") != "1.25"]
    for name in ("memory", "energy"):
        cells = [cell.text for row in table(found, f"{name}-numbers").rows for cell in row.cells[1:]]
        assert numbers_in(folder / f"{name}.svg") == [text for text in cells if text != "-"]


def test_no_colour_stands_for_two_things():
    assert len({*COLOURS.values(), *PHASE_COLOURS.values()}) == len(COLOURS) + len(PHASE_COLOURS)


def test_text_on_the_map_can_be_read():
    def luminance(face):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in face[:3]]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for level in range(256):
        face = matplotlib.colormaps["cividis"](level)
        lighter, darker = sorted((luminance(face), {"white": 1.0, "black": 0.0}[text_colour(face)]), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_many_cases_are_spread_over_figures_and_none_is_lost():
    cases = list(range(2 * CASES_A_FIGURE + 1))
    found = list(pages(cases))
    assert [name for name, _, _ in found] == ["-1", "-2", "-3"]
    assert [case for _, _, page in found for case in page] == cases
    assert [name for name, _, _ in pages(cases[:3])] == [""]


def test_a_long_name_keeps_its_beginning_and_its_end():
    name = f"first, {'x' * 300}, last"
    lines = lines_of(name).split("\n")
    assert len(lines) == 2
    assert all(len(line) <= 54 for line in lines)
    assert lines[0].startswith("first")
    assert lines[-1].endswith("last")


def test_scaling_is_over_what_differs_alone():
    (run,) = load(WHOLE)
    columns = columns_of([run])
    (column,) = columns
    (batches,) = series_of(columns, column, "batch_size")
    assert [point.at for point in batches.points] == [16, 32, 128]
    (widths,) = series_of(columns, column, "width")
    assert [point.at for point in widths.points] == [32, 64, 128]
    assert list(series_of(columns, column, "world_size")) == []
    rows = [
        with_(row, case=with_(row.case, batch_size=64, world_size=world_size))
        for row, world_size in zip(run.cases, (1, 4), strict=False)
    ]
    columns = columns_of([replace(run, cases=rows)])
    (column,) = columns
    (sizes,) = series_of(columns, column, "world_size")
    assert [point.at for point in sizes.points] == [1, 4]
    assert list(series_of(columns, column, "batch_size")) == []
