"""From a run of peers to report.md: pure functions of peers.json, the same text each time."""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import results
from bench.analysis.statistics import Interval, ratio_interval
from bench.peers.peer import Record
from bench.peers.runner import load
from bench.report.words import interval_text, number_text


def write(path: Path, parent: Path) -> Path:
    """Write the report of a run's folder to `parent`/peers/<run>/report.md and return that path."""
    record = load(path)
    folder = parent / "peers" / path.name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "report.md"
    results.write_atomically(file, "\n".join(lines(record)) + "\n")
    return file


def verdict(ratio: Interval | None, at_least: float, *, gpu: bool) -> str:
    """Say whether a ratio reaches its target at 95 % confidence; a target is for a GPU."""
    if ratio is None:
        return "not measured"
    if not gpu:
        return "not judged: no GPU"
    return "met" if ratio.low >= at_least else "not met" if ratio.high < at_least else "inconclusive"


def targets(record: Record) -> Iterator[list[str]]:
    """Yield a row for each target: peer, case, theirs, ours, ratio, target, verdict."""
    gpu = record["machine"]["gpu"] is not None
    for peer in record["peers"]:
        for case in peer["cases"]:
            for theirs, at_least in case["targets"].items():
                for ours in case["judged"]:
                    ratio = over(case, theirs, ours)
                    cells = [theirs, ours, interval_text(ratio) or "-", f">= {at_least:g}"]
                    yield [peer["title"], case["name"], *cells, verdict(ratio, at_least, gpu=gpu)]


def over(case: Record, arm: str, reference: str) -> Interval | None:
    """Return the time of one arm's step over that of another; None where one was not measured to the end."""
    times = [case["arms"][name].get("wall_ms") for name in (arm, reference)]
    if not all(times) or len(times[0]) != len(times[1]) or len(times[0]) < 2:
        return None
    return ratio_interval(*times)


def lines(record: Record) -> Iterator[str]:
    """Yield the report line by line."""
    machine = record["machine"]
    yield "# Other people's training steps beside ours"
    yield ""
    yield f"On {_md(machine['gpu'] or machine['cpu'])}, {_md(record['started'])}. Same networks (theirs), same batch."
    yield ""
    yield (
        "Theirs is their own code, run from a checkout with what their step costs in it: `.item()` calls, prints, "
        "gradients nobody uses. A ratio is the time of their step over that of ours: median of the per-round ratios of "
        "arms that took turns in random order, with a 95 % bootstrap interval. `one_stage`, `simultaneous` and "
        "`osgan.backward` are simultaneous descent, two stages and loops of theirs are alternating: equal seconds a "
        "step say nothing of quality."
    )
    yield ""
    if machine["gpu"] is None:
        yield "**This run had no GPU. The targets are for a GPU with the fastest engine: the numbers stand unjudged.**"
        yield ""
    yield "## Targets"
    yield ""
    yield from _table(["peer", "case", "theirs", "ours", "theirs / ours", "target", "verdict"], targets(record))
    for peer in record["peers"]:
        yield from _peer(peer)
    yield "## Machine"
    yield ""
    yield from (f"- {_md(key)}: {_md(value)}" for key, value in machine.items())
    yield ""
    yield "## Reproduce"
    yield ""
    yield "```"
    yield record["command"]
    yield "```"
    yield ""
    yield f"Raw results: `peers.json`, format {record['format']}."


def _peer(peer: Record) -> Iterator[str]:
    yield f"## {_md(peer['title'])}"
    yield ""
    changed = " (with local changes)" if peer["dirty"] else ""
    yield f"{peer['url']}, commit {peer['commit'] or 'unknown: the folder is no git checkout'}{changed}."
    yield ""
    if peer["status"] != "ok":
        yield f"**{peer['status']}**: {_md(peer['reason'])}"
        yield ""
    for case in peer["cases"]:
        yield from _case(case)
    for title, sentences in (("What was patched, in memory", peer["patched"]), ("To know", peer["remarks"])):
        if sentences:
            yield f"### {title}"
            yield ""
            yield from (f"- {_md(sentence)}" for sentence in sentences)
            yield ""


def _case(case: Record) -> Iterator[str]:
    yield f"### {_md(case['name'])}"
    yield ""
    about = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in case["about"].items())
    yield f"{_md(about)}. {case['rounds']} rounds of {case['steps_per_round']} steps, ended by {_md(case['ended_by'])}."
    yield ""
    if case["from_folder"]:
        yield (
            "From a folder of images: theirs decodes them in its loader's processes, batch by batch; ours has decoded "
            "them once, before the time measured, and draws its batches on the device."
        )
        yield ""
    ours = [arm for arm in case["arms"] if arm.startswith("ours ") and case["arms"][arm].get("wall_ms")]
    counted = any(found.get("flops") for found in case["arms"].values())
    rows = (_arm(case, arm, ours, counted=counted) for arm in case["arms"])
    rate = f"{case['about'].get('items', 'images')}/s"
    heads = ["arm", "what", "ms a step", rate, *(["GFLOPs a step"] if counted else [])]
    yield from _table([*heads, *(f"time over {arm}'s" for arm in ours)], rows)
    if case["checks"]:
        yield "Gradients of one step from the same weights, batch and latents, theirs against ours:"
        yield ""
        heads = ["theirs", "ours", "at", "in", "G's differ by", "D's differ by", "finite"]
        yield from _table(heads, (_check(check) for check in case["checks"]))


def _arm(case: Record, arm: str, ours: list[str], *, counted: bool) -> list[str]:
    found = case["arms"][arm]
    if found["status"] != "ok":
        return [arm, f"{found['status']}: {found['reason']}", "-", "-", *["-"] * counted, *("-" for _ in ours)]
    ms = statistics.median(found["wall_ms"])
    what = found["what"] + (
        "" if found.get("weights_finite", True) else "; its weights were no longer finite at the end"
    )
    ratios = ["1" if arm == other else interval_text(over(case, arm, other)) or "-" for other in ours]
    gflops = [number_text(found["flops"] / 1e9) if found.get("flops") else "-"] if counted else []
    rate = case["about"]["batch_size"] * 1e3 / ms
    return [arm, what, number_text(ms), f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}", *gflops, *ratios]


def _check(check: Record) -> list[str]:
    errors = [check[f"{player}_error"] for player in ("generator", "discriminator")]
    lowered = check["logits_lowered_by"]
    sides = {(True, True): "both", (False, True): "ours only", (True, False): "theirs only", (False, False): "neither"}
    return [
        check["theirs"],
        check["ours"],
        f"logits lowered by {lowered:g}" if lowered else "the start",
        check.get("precision", "float32"),
        *("-" if error is None else f"{error:.1e}" for error in errors),
        sides[check["theirs_finite"], check["ours_finite"]],
    ]


def _table(heads: list[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    yield from (f"| {' | '.join(_md(cell) for cell in row)} |" for row in rows)
    yield ""


def _md(text: Any) -> str:
    """Text of a checkout or a user as it is: no character of it is Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|~&!])", r"\\\1", " ".join(str(text).split()))
