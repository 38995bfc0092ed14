import errno
import filecmp
import io
import os
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from typer.testing import CliRunner

from bench import cli, report, results
from bench.analysis.text import one_line, visible
from bench.report import document, markdown, terminal
from bench.report.columns import columns_of
from bench.report.endings import command, problems
from bench.report.formats import speedup_csv, speedup_latex
from bench.report.pages import document as document_of
from bench.results.manifest import RayFacts, Selection
from osgan.errors import InputError
from tests.bench.rows import changed, with_

HERE = Path(__file__).parents[1]
RUN = next(HERE.glob("fixtures/format-1/verdicts/*"))
WHOLE = next(HERE.glob("fixtures/format-2/everything/*"))  # a row of every kind, and something for every section
OTHER = next(HERE.glob("fixtures/format-2/another-machine/*"))
PROCESSES = next(HERE.glob("fixtures/format-4/rows/*"))  # a case in two processes, and one that has had one of them
SOON = next(HERE.glob("fixtures/format-6/soon/*"))  # a search of a space, a level, one setting for all
MODERN = next(HERE.glob("fixtures/format-5/modern/*"))  # penalties, augmentation, and all that a suite adds to a step
HOSTILE = "`rm`|<img src=x onerror=alert(1)>[x](javascript:alert) # no heading"


def load(*paths):
    return [results.load(path) for path in paths]


@pytest.fixture(scope="module")
def whole(written):
    return (written(WHOLE) / "report.md").read_text()


def plain(text):
    return text.replace("\\", "")


def tables_of(found):
    for section in found.sections:
        for block in section.blocks:
            if isinstance(block, document.Figure):
                yield block.table
            elif isinstance(block, document.Table):
                yield block


def table(found, name):
    return next(table for table in tables_of(found) if table.name == name)


@pytest.mark.parametrize(
    ("runs", "golden"),
    [
        ((RUN,), "report.md"),
        ((WHOLE,), "report-format-2.md"),
        ((WHOLE, OTHER), "report-merged.md"),
        ((PROCESSES,), "report-processes.md"),
        ((MODERN,), "report-modern.md"),
        ((SOON,), "report-soon.md"),
    ],
)
def test_markdown_is_the_golden_file(runs, golden, written):
    # a wanted change: python -m bench report RUN... --out /tmp/new, read it, and copy report.md to golden/
    assert (written(*runs) / "report.md").read_text() == (HERE / "golden" / golden).read_text()


@pytest.mark.parametrize("runs", [(RUN,), (WHOLE, OTHER)])
def test_the_same_runs_give_the_same_bytes_in_whatever_order(runs, written, tmp_path):
    first, again = written(*runs), report.write(load(*reversed(runs)), tmp_path).parent
    assert again.name == first.name
    files = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    assert {"report.md", "index.html"} <= {str(path) for path in files}
    _, different, unreadable = filecmp.cmpfiles(first, again, files, shallow=False)
    assert (different, unreadable) == ([], [])


def test_the_sections_stand_in_their_order():
    names = [section.name for section in document_of(load(WHOLE)).sections]
    assert names == [
        "targets", "speedup", "heat-map", "measured-and-ceiling", "time", "memory", "energy", "scaling", "quality",
        "samples", "paper", "doubts", "machine", "raw-data",
    ]  # fmt: skip


def test_a_case_that_was_lost_with_its_node_says_so():
    run = results.load(OTHER)
    found = problems(replace(run, cases=[with_(run.cases[0], lost=["lost with node ab12"]), *run.cases[1:]]))
    assert f"{run.cases[0].name}: run again: lost with node ab12" in found


def test_a_reader_of_the_report_alone_knows_speedup_interval_machine_and_command(whole):
    first = plain(whole).split("\n\n")[1]
    assert re.search(r"faster than two_stage \(the paper's baseline\), \d\.\d{3}x \[\d\.\d{3}, \d\.\d{3}\]", first)
    assert re.search(r"faster than two_stage_reused_frozen .*\d\.\d{3}x \[\d\.\d{3}, \d\.\d{3}\], on Test GPU", first)
    assert "one process a case gives no verdict on the claim of 1.5x" in first
    assert "git checkout abc1234567\nmake bench SUITE=everything DEVICE=cuda ARGS=" in whole


def test_every_kind_of_row_is_shown(whole):
    text = plain(whole)
    verdicts = {row.cells[2].text for row in table(document_of(load(WHOLE)), "measured-and-ceiling-numbers").rows}
    assert verdicts == {"faster", "slower", "inconclusive", "failed", "skipped", "run as simultaneous"}
    assert " ~<br>ceiling 1.22" in text
    assert "NonFiniteLossError: generator_loss of wgan is nan at step 7" in text
    assert "skipped: dataset 'lsun:church_outdoor': found nothing at" in text
    assert "killed by signal 9" in text
    assert "lsgan 128 bf16 cuda_graph: not run yet" in text
    assert "the GPU was throttled: SwPowerCap" in text
    assert "seed 2: failed: two_stage: NonFiniteLossError: generator_loss of nonsaturating is nan at step 31" in text
    assert "seed 2, one_stage: trained without what was asked for: cuda_graph is not possible here: a <reason>" in text
    assert "the arms did not have the same engine: two_stage: compile is not possible here" in text
    assert "trainings not run yet" in text
    assert "| 1, 0 |" in text  # failed
    assert "| 0, 1 |" in text  # collapsed


def test_a_stand_in_and_an_unmatched_case_are_marked_wherever_they_stand():
    found = document_of(load(WHOLE))
    for name in ("speedup", "step-times", "memory-numbers", "energy-numbers", "gflop"):
        cases = [row.cells[0].text for row in table(found, name).rows]
        assert sum("\N{DAGGER}" in case for case in cases) == sum("UNMATCHED" in case for case in cases) == 1, name
    assert [line.split()[0] for line in found.verdict[2:4]] == ["UNMATCHED:", "\N{DAGGER}"]


def test_names_from_a_suite_are_text_in_markdown(whole, written):
    """As a reader of Markdown that lets HTML through sees it: every name is text, and nothing is there but ours."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(whole)
    inline = [child for token in tokens for child in token.children or ()]
    folder = written(WHOLE)
    pictures = {token.attrs["src"] for token in inline if token.type == "image"}
    assert len(pictures) > 10
    assert all((folder / picture).is_file() for picture in pictures)
    links = [token.attrs["href"] for token in inline if token.type == "link_open"]
    assert links == ["run.json", "cases.jsonl", "quality.jsonl"]
    assert all((folder / link).is_file() for link in links)
    assert {token.content for token in inline if token.type == "html_inline"} == {"<br>"}
    blocks = "".join(token.content for token in tokens if token.type == "html_block")
    assert set(re.findall(r"<[^>]*>", blocks)) == {"<details>", "<summary>", "</summary>", "</details>"}
    cells = [t.children for t, after in pairwise(tokens) if after.type in ("td_close", "th_close")]
    assert sum(HOSTILE in "".join(child.content for child in cell) for cell in cells) > 3
    assert [token.tag for token in tokens if token.type == "heading_open"].count("h1") == 1
    assert "code_inline" not in {token.type for token in inline}


@pytest.mark.parametrize(
    "name",
    [
        *(HOSTILE, "a\n\n# b", "- a", "+ a", "1. a", "1) a", "---", "===", "> a", "*a* _b_ ~~c~~", "&lt;b&gt;", "<!--"),
        *("$x^2$", "\\<b>", "![x](y)", "[x]: y", "a  b", "\x1b[31mred", "a\x00b"),
    ],
)
def test_any_text_is_itself_in_markdown(name):
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    found = document.Document(
        name, [name], [document.Section("s", name, [document.Text([name], [name], name, [(name, "x y.json")])])]
    )
    tokens = reader.parse(markdown.render(found))
    texts = ["".join(c.content for c in token.children) for token in tokens if token.type == "inline"]
    shown = one_line(name)
    assert texts == [shown] * 6  # title, verdict, section, paragraph, item, link
    fences = [token.content for token in tokens if token.type == "fence"]
    assert fences == [f"{visible(name)}\n"]


def test_targets_are_judged_in_a_table():
    rows = table(document_of(load(WHOLE)), "targets").rows
    assert [row.cells[2].text for row in rows] == ["inconclusive", "met", "not met", "met", "not measured"]


def test_a_run_without_them_says_nothing_of_targets_profiles_and_quality(written):
    text = (written(RUN) / "report.md").read_text()
    assert not re.search("Targets|GPU's time|GPU is idle|matrix product|Quality over time|Scaling", text)
    assert "Not measured: there was no energy counter to read." in text


def test_the_paper_is_set_beside_the_cases_that_match():
    rows = table(document_of(load(WHOLE)), "paper-numbers").rows
    cells = [[cell.text for cell in (row.cells[0], row.cells[3], *row.cells[5:])] for row in rows]
    churches, celeba = "lsun:church_outdoor", "celeba dcgan64+width=128+norm={} {} 128 bf16 cuda_graph"
    assert [cell[:3] for cell in cells] == [
        ["CelebA, symmetric", "1.71", celeba.format("batch", "minimax")],
        ["CelebA, symmetric", "1.71", celeba.format("group", "minimax")],
        ["CelebA, asymmetric", "1.43", celeba.format("group", "nonsaturating")],
        [
            "LSUN Churches, symmetric",
            "1.50",
            celeba.format("batch", "minimax").replace("celeba", churches),
        ],
        ["LSUN Churches, asymmetric", "1.59", "no such case"],
        ["FFHQ, symmetric", "1.54", "no such case"],
        ["FFHQ, asymmetric", "1.48", "no such case"],
    ]
    assert [cell[3].split(" ")[0] for cell in cells] == ["1.48", "1.55", "1.31", "skipped", "-", "-", "-"]
    assert cells[1][3].endswith("UNMATCHED")
    text = markdown.render(document_of(load(RUN)))
    assert "Nothing here has a case that matches one of the published pairs" in text


def test_machines_stand_side_by_side_and_are_not_pooled():
    both = table(document_of(load(WHOLE, OTHER)), "speedup-two-stage")
    assert both.columns == ["case", "Test GPU", "Other GPU"]
    for column, path in enumerate((WHOLE, OTHER), 1):
        alone = table(document_of(load(path)), "speedup")
        index = alone.columns.index("two_stage")
        shown = [row.cells[column] for row in both.rows if row.cells[column].note != "not in this run"]
        assert sorted(shown, key=str) == sorted((row.cells[index] for row in alone.rows), key=str)
    assert sum(row.cells[1].note == "not in this run" for row in both.rows) == 1
    assert both.rows[-1].total


def test_runs_of_one_machine_are_told_apart_by_their_start():
    (run,) = load(OTHER)
    again = replace(run, path=Path("again"), manifest=with_(run.manifest, started="2026-03-02T00:00:00+00:00"))
    labels = [column.label for column in columns_of([again, run])]
    assert labels == ["Other GPU, 2026-03-01T00:00:00+00:00", "Other GPU, 2026-03-02T00:00:00+00:00"]
    with pytest.raises(InputError, match="was given twice"):
        columns_of([run, run])


def test_a_run_of_a_cluster_is_split_by_machine():
    (run,) = load(OTHER)
    machines = [with_(run.manifest.machine, gpu=name) for name in ("First GPU", "Second GPU")]
    rows = [with_(row, machine=machines[index % 2]) for index, row in enumerate(run.cases)]
    manifest = with_(run.manifest, cases=[*run.manifest.cases, "never run"])
    found = document_of([replace(run, cases=rows, manifest=manifest)])
    both = table(found, "speedup-two-stage")
    assert both.columns == ["case", "First GPU", "Second GPU"]
    shown = [[cell.note == "not in this run" for cell in row.cells[1:]] for row in both.rows[:-1]]
    assert shown == [[False, True], [False, True], [True, False], [True, False]]
    assert "never run: not run yet" in markdown.render(found)


def test_a_sample_is_taken_from_the_run_alone(tmp_path):
    (run,) = load(WHOLE)
    row = run.cases[6]
    secret = WHOLE.parent / ".." / ".." / ".." / "golden" / "report.md"
    assert secret.is_file()
    row = changed(row, "two_stage", samples="samples/../../../../../golden/report.md")
    row = changed(row, "one_stage", samples="samples/missing.png")
    found = document_of([replace(run, cases=[row], quality=[])])
    (pictures,) = [b for s in found.sections for b in s.blocks if isinstance(b, document.Pictures)]
    assert [caption for caption, _ in pictures.pictures] == ["real", "two_stage_reused_frozen"]


def test_the_command_can_be_copied_whatever_the_names():
    (run,) = load(WHOLE)
    suite = with_(run.manifest.suite, name="x; rm -rf ~", seed=0)
    changes = {"suite": suite, "selection": Selection()}
    assert (
        command(replace(run, manifest=with_(run.manifest, **changes))) == "make bench SUITE='x; rm -rf ~' DEVICE=cuda"
    )
    over_ray = changes | {"ray": RayFacts(device="cpu")}
    assert command(replace(run, manifest=with_(run.manifest, **over_ray))).endswith("DEVICE=cpu ARGS='--ray auto'")


def test_the_raw_data_lie_beside_the_report(written):
    folder = written(WHOLE, OTHER)
    for number, path in enumerate((WHOLE, OTHER), 1):
        assert (folder / f"run-{number}" / "cases.jsonl").read_bytes() == (path / "cases.jsonl").read_bytes()
        assert f"(run-{number}/cases.jsonl)" in (folder / "report.md").read_text()
    assert (folder / "run-1/samples/celeba-dcgan64/real.png").is_file()


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write a report to .*file/here: Not a directory; .* --out"):
        report.write(load(OTHER), tmp_path, out=tmp_path / "file" / "here")


def test_the_terminal_shows_every_machine():
    console = Console(file=io.StringIO(), width=200)
    terminal.show(console, load(WHOLE, OTHER))
    text = console.file.getvalue()
    assert "on Test GPU" in text
    assert "on Other GPU" in text
    assert text.count("geometric mean   ") == 2
    assert text.count("one process a case gives no verdict on the claim of 1.5x") == 2
    assert HOSTILE in text


def test_the_commands_take_several_runs(tmp_path):
    runs = [str(WHOLE), str(OTHER)]
    done = CliRunner().invoke(cli.app, ["report", *runs, "--reports", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (page,) = tmp_path.glob("merged/20260301T000000Z_2-runs_*/index.html")
    assert done.output.replace("\n", "") == str(page)
    assert CliRunner().invoke(cli.app, ["report", runs[1], "--out", str(tmp_path / "here")]).exit_code == 0
    assert (tmp_path / "here" / "report.md").is_file()
    shown = CliRunner().invoke(cli.app, ["show", *runs])
    assert "on Other GPU; one process a case gives no verdict" in shown.output


SEEN = "a\x1b[31mb\u202ec\x00d\u2066e\x9bf"


def test_no_format_hands_on_what_is_not_seen(tmp_path):
    """A name of another's results: it would colour a terminal, hide a file's ending, or end a text early."""
    (run,) = load(WHOLE)
    suite = with_(run.manifest.suite, name=SEEN)
    machine = with_(run.manifest.machine, gpu=SEEN)
    case = with_(run.cases[0].case, loss=SEEN, architecture=SEEN)
    first = with_(run.cases[0], name=SEEN, case=case, reason=SEEN, lost=[SEEN])
    training = with_(run.quality[0], status="failed", reason=SEEN)
    manifest = with_(run.manifest, suite=suite, machine=machine, cases=[SEEN, *run.manifest.cases])
    made = replace(run, manifest=manifest, cases=[first, *run.cases[1:]], quality=[training, *run.quality[1:]])
    made = replace(made, remarks=[SEEN])
    page = report.write([made], tmp_path, out=tmp_path / "out")
    console = Console(file=io.StringIO(), width=200)
    terminal.show(console, [made])
    texts = {path.name: path.read_text() for path in (page, page.with_name("report.md"), *page.parent.glob("*.svg"))}
    texts |= {"terminal": console.file.getvalue(), "csv": speedup_csv([made]), "latex": speedup_latex([made])}
    for name, text in texts.items():
        assert not set(text) & set("\x00\x1b\x9b\u202e\u2066"), name
    for name in ("index.html", "csv", "terminal"):
        assert "a\\x1b[31mb\\u202ec\\x00d\\u2066e\\x9bf" in texts[name], name


def test_a_report_that_does_not_fit_leaves_what_stood_there(tmp_path, monkeypatch):
    page = report.write(load(RUN), tmp_path)
    before = {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"No space left on device; make room or choose another place .* bench report"):
        report.write(load(RUN), tmp_path)
    assert {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()} == before
    assert not list(page.parent.glob(".*"))
    with pytest.raises(InputError):
        report.write(load(RUN), tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*.*ml"))


def test_a_link_out_of_a_run_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    run = tmp_path / "tiny" / "run"
    shutil.copytree(RUN, run)
    (run / "samples").mkdir(exist_ok=True)
    (run / "samples" / "out.png").symlink_to(secret)
    (run / "samples" / "dangling.png").symlink_to(tmp_path / "nothing")
    folder = report.write(load(run), tmp_path / "reports").parent
    assert not any("secret" in path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
