"""The page of a report in a browser: Chromium of the distribution, headless, from disk. Skipped where there is none."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bench import report, results
from bench.report.formats import table_csv
from bench.report.pages import document
from tests.bench.rows import with_

HERE = Path(__file__).parents[1]
RUNS = [next(HERE.glob(f"fixtures/format-2/{name}/*")) for name in ("everything", "another-machine")]
CHROMIUM = ("chromium", "google-chrome", "chromium-browser")
SCHEMES = ("light", "dark")
HOSTILE = "</title></script><img src=x onerror=document.title='taken'>"
LONG = ".table:has(output)"
"""A table with a filter."""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason="playwright, of the dev extra, is not installed")
    found = next((path for name in CHROMIUM if (path := shutil.which(name)) and starts(path)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(CHROMIUM)} is here and starts, to open the report in")
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])  # CI runs as root
        yield opened
        opened.close()


def starts(path):
    """Ubuntu's package is a stub that only says where to get one."""
    return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0


@pytest.fixture(scope="module")
def runs():
    """Runs whose suite, and one of whose losses, try to run in the page."""
    found = [results.load(path) for path in RUNS]
    suites = [with_(run.manifest.suite, name=HOSTILE) for run in found]
    return [replace(run, manifest=with_(run.manifest, suite=suite)) for run, suite in zip(found, suites, strict=True)]


@pytest.fixture(scope="module")
def address(runs, tmp_path_factory):
    return report.write(runs[:1], tmp_path_factory.mktemp("report"), out=tmp_path_factory.mktemp("one")).as_uri()


@pytest.fixture(scope="module")
def merged(runs, tmp_path_factory):
    return report.write(runs, tmp_path_factory.mktemp("report")).as_uri()


@pytest.fixture
def visit(browser, address):
    """Open the page as a reader does; at the end nothing may stand in the console and nothing may have been fetched."""
    contexts, faults = [], []

    def visit(url=address, width=1440, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert faults == []


def cells(table, column):
    """The texts of the rows that are shown, top to bottom, totals last."""
    return table.locator(f"tr:visible > :nth-child({column}):not(thead *)").all_inner_texts()


def values(table, column):
    found = table.locator(f"tbody tr > :nth-child({column})")
    return [cell.get_attribute("data-value") for cell in found.all()]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_serious_accessibility_fault(visit, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe, of the dev extra, is not installed")
    page = visit(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    found = axe.Axe().run(page).response
    bad = [(v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert bad == []
    assert "color-contrast" in [rule["id"] for rule in found["passes"]]  # else nothing was looked at


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("which", ["address", "merged"])
def test_the_page_never_scrolls_sideways(visit, request, width, which):
    page = visit(request.getfixturevalue(which), width=width)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    if width == 390:  # wide tables scroll in regions that the keyboard reaches
        wide = "[...document.querySelectorAll('.scroll')].filter(part => part.scrollWidth > part.clientWidth)"
        assert page.evaluate(f"{wide}.length") > 0
        assert page.evaluate(f"{wide}.every(part => part.tabIndex === 0 && part.ariaLabel)")


def test_colours_follow_the_system_and_text_differs_from_its_ground(visit):
    found = [
        visit(color_scheme=scheme).evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        for scheme in SCHEMES
    ]
    assert len({colour for pair in found for colour in pair}) == 4


def test_sorting_by_mouse_and_keyboard(visit):
    table = visit().locator("#speedup")
    head, control = table.locator("thead th").nth(1), table.locator("thead button").nth(1)
    written = values(table, 2)
    present = [value for value in written if value is not None]
    missing = [None] * (len(written) - len(present))
    assert missing  # a failed case: last in either direction
    control.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert values(table, 2) == sorted(present, key=float) + missing
    control.focus()
    control.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert values(table, 2) == sorted(present, key=float, reverse=True) + missing
    assert cells(table, 1)[-1] == "geometric mean"
    control.press("Space")
    assert head.get_attribute("aria-sort") is None
    assert values(table, 2) == written
    control.click()
    table.locator("thead button").nth(0).click()
    assert table.locator("[aria-sort]").count() == 1
    datasets = [name.split(",")[0] for name in cells(table, 1)[:-1]]
    assert datasets == sorted(datasets)
    assert len(set(datasets)) == 3


def test_filtering_says_how_much_is_shown(visit):
    page = visit()
    table = page.locator("#speedup")
    rows = len(values(table, 1))
    field = table.get_by_label("Filter")
    field.focus()
    page.keyboard.type("NONSATURATING cuda_graph")
    shown = cells(table, 1)
    assert 2 < len(shown) < rows
    assert all("nonsaturating" in name and "cuda_graph" in name for name in shown[:-1])
    assert shown[-1] == "geometric mean"
    status = table.get_by_role("status")
    assert status.inner_text() == f"{len(shown) - 1} of {rows} rows; the totals are of all"
    field.fill("")
    assert status.inner_text() == f"{rows} of {rows} rows"
    assert len(cells(table, 1)) == rows + 1
    assert all(part.locator("tbody tr").count() >= 6 for part in page.locator(LONG).all())


def test_downloads_from_disk(visit, runs):
    page = visit()
    tables = {t.name: t for s in document(runs[:1]).sections for t in s.blocks if getattr(t, "name", "") == "speedup"}
    with page.expect_download() as started:
        page.locator("#speedup").get_by_role("link", name="Download CSV").click()
    assert started.value.suggested_filename == "speedup.csv"
    assert started.value.path().read_bytes().decode() == table_csv(tables["speedup"])
    with page.expect_download() as started:
        page.get_by_role("link", name="Download SVG").first.click()
    assert started.value.suggested_filename.endswith(".svg")
    folder = Path(page.url.removeprefix("file://")).parent
    assert started.value.path().read_bytes() == (folder / started.value.suggested_filename).read_bytes()


def test_the_command_can_be_copied(visit):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    control = page.get_by_role("button", name="Copy")
    control.click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("pre code").text_content()
    assert "make bench SUITE=" in copied


def test_print_shows_folded_parts_and_no_controls(visit):
    page = visit(color_scheme="dark")
    folded = page.locator("details table").first
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible()
    assert page.locator("nav, .tools").filter(visible=True).count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_without_javascript_everything_is_there(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("button, input").count() == 0
    assert page.locator("#speedup tbody tr").count() > 6
    folded = page.locator("details").first
    folded.locator("summary").click()
    assert folded.locator("table").is_visible()
    assert page.get_by_role("link", name="Download CSV").first.is_visible()


def test_names_of_a_suite_are_text_to_the_script_too(visit):
    page = visit()
    table = page.locator("#speedup")
    table.locator("thead button").first.click()
    table.get_by_label("Filter").fill("<img onerror")
    assert len(cells(table, 1)) == 2
    assert "<img src=x onerror=alert(1)>" in cells(table, 1)[0]
    assert page.title().startswith(HOSTILE)
