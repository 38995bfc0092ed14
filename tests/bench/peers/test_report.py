import json
from pathlib import Path

import pytest

from bench.analysis.statistics import Interval
from bench.peers import report
from bench.peers.runner import load
from osgan.errors import InputError

GOLDEN = Path(__file__).with_name("golden")


def _arm(times, what="", **found):
    return {"status": "ok", "reason": None, "what": what, "wall_ms": times, "steady": True} | found


def _record(gpu="A GPU"):
    arms = {
        "theirs one_stage": _arm([31.0, 31.5, 32.0], "train_one.py", weights_finite=False),
        "theirs two_stage": {"status": "failed", "reason": "RuntimeError: out of | luck", "what": "train_two.py"},
        "ours one_stage": _arm([10.0, 10.0, 10.0]),
        "ours two_stage": {"status": "skipped", "reason": "not exact", "what": ""},
    }
    arms["theirs one_stage"]["flops"], arms["ours one_stage"]["flops"] = 3 * 10**9, 10**9
    checks = [
        {"theirs": "theirs one_stage", "ours": "one_stage", "logits_lowered_by": shift, "generator_error": error,
         "discriminator_error": 2.5e-7, "precision": "float64", "theirs_finite": error is not None, "ours_finite": True}
        for shift, error in ((0.0, 1.25e-7), (100.0, None))
    ]  # fmt: skip
    case = {
        "name": "asymmetric, from a folder",
        "from_folder": True,
        "about": {"batch_size": 128, "width": 128, "loss": "nonsaturating"},
        "steps_per_round": 7,
        "rounds": 3,
        "ended_by": "budget_s",
        "checks": checks,
        "targets": {"theirs one_stage": 3.0, "theirs two_stage": 2.0},
        "judged": ["ours one_stage"],
        "arms": arms,
    }
    peer = {
        "key": "osgan",
        "title": "OSGAN authors' code",
        "url": "https://example.org/osgan",
        "commit": "abc123",
        "dirty": True,
        "status": "ok",
        "reason": None,
        "patched": ["A name_that | nobody uses."],
        "remarks": ["It waits."],
        "cases": [case],
    }
    failed = peer | {"title": "Another", "commit": None, "dirty": None, "status": "failed", "reason": "main.py: gone"}
    return {
        "format": 2,
        "started": "2026-11-22T10:00:00+00:00",
        "command": "python -m bench peers --repo CHECKOUT_OF_OSGAN",
        "machine": {"gpu": gpu, "cpu": "A CPU", "commit": "1234567890"},
        "peers": [peer, failed | {"cases": [], "patched": [], "remarks": []}],
    }


def test_the_whole_report(tmp_path):
    run = tmp_path / "20261122T100000Z_A-GPU"
    run.mkdir()
    (run / "peers.json").write_text(json.dumps(_record()))
    page = report.write(run, tmp_path / "reports")
    assert page == tmp_path / "reports" / "peers" / run.name / "report.md"
    assert page.read_text() == (GOLDEN / "report.md").read_text()


@pytest.mark.parametrize(
    ("low", "high", "said"), [(2.0, 2.2, "met"), (1.8, 1.99, "not met"), (1.9, 2.0, "inconclusive")]
)
def test_a_target_is_met_by_the_whole_interval(low, high, said):
    assert report.verdict(Interval(1.95, low, high, 20), 2.0, gpu=True) == said
    assert report.verdict(Interval(1.95, low, high, 20), 2.0, gpu=False) == "not judged: no GPU"


def test_without_a_gpu_no_target_is_judged():
    rows = list(report.targets(_record(gpu=None)))
    assert [row[-1] for row in rows] == ["not judged: no GPU", "not measured"]
    assert any("This run had no GPU" in line for line in report.lines(_record(gpu=None)))


def test_arms_that_stopped_early_have_no_ratio():
    case = _record()["peers"][0]["cases"][0]
    case["arms"]["theirs one_stage"]["wall_ms"] = [30.0, 31.0]
    assert report.over(case, "theirs one_stage", "ours one_stage") is None


def test_a_run_of_format_1_is_read(tmp_path):
    record = _record() | {"format": 1}
    (case,) = record["peers"][0]["cases"]
    for part in (*case["arms"].values(), *case["checks"]):
        for name in ("flops", "precision"):
            part.pop(name, None)
    (tmp_path / "peers.json").write_text(json.dumps(record))
    text = "\n".join(report.lines(load(tmp_path)))
    assert "GFLOPs" not in text
    assert "| the start | float32 |" in text


def test_a_loop_on_other_things_than_images_says_how_many_of_them_a_second():
    record = _record()
    case = record["peers"][0]["cases"][0]
    case["about"] |= {"items": "segments", "batch_size": 1}
    case["arms"]["ours one_stage"]["wall_ms"] = [2000.0, 2000.0, 2000.0]
    text = "\n".join(report.lines(record))
    assert "| segments/s |" in text
    assert "| 2000.00 | 0.50 | 1.00 | 1 |" in text


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ('{"format": 3}', "has format 3")])
def test_what_is_no_record_is_refused(tmp_path, text, message):
    (tmp_path / "peers.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load(tmp_path)
