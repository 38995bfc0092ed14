"""Rows and manifests for tests: what a test does not say has a value that is as good as any."""

from pathlib import Path

from bench.results import FORMAT_VERSION, CaseRow, Machine, Manifest, QualityRow, Run

CASE = {"dataset": "d", "architecture": "a", "loss": "hinge", "batch_size": 8}


def case_row(name="a", arms=None, case=None, **more):
    """Return a timed case of arms given as plain values, each with a status of its own or ok."""
    arms = {scheme: {"status": "ok"} | arm for scheme, arm in (arms or {}).items()}
    whole = {"name": name, "case": CASE | (case or {}), "status": "ok", "arms": arms} | more
    return CaseRow.model_validate(whole)


def quality_row(name="a", seed=0, variant="plain", arms=None, **more):
    """Return a trained seed of a case."""
    job = f"{name} / {variant} / {'tune' if seed is None else f'seed {seed}'}"
    arms = {scheme: {"status": "ok"} | arm for scheme, arm in (arms or {}).items()}
    whole = {"name": job, "case": CASE, "variant": variant, "seed": seed, "status": "ok", "arms": arms} | more
    return QualityRow.model_validate(whole)


def machine(**more):
    """Return a machine with a CPU."""
    facts = {"device": "cpu", "cpu": "Some CPU", "threads": 2, "libraries": {"torch": "2.15.0"}, "commit": "abc"}
    return Machine.model_validate(facts | {"dirty": False} | more)


def manifest(cases=("a",), *, on=None, suite=None, **more):
    """Return a manifest of two schemes."""
    asked = {"name": "s", "schemes": ["two_stage", "one_stage"]} | (suite or {})
    facts = {"format": FORMAT_VERSION, "suite": asked, "cases": list(cases), "machine": on or machine()}
    return Manifest.model_validate(facts | {"started": "2026-11-22T00:00:00+00:00"} | more)


def run_of(*cases, quality=(), path=Path("results/s/x"), **of_manifest):
    """Return a run of these rows; its manifest names their cases unless it is given others."""
    names = of_manifest.pop("cases", list(dict.fromkeys(row.case_name for row in (*cases, *quality))))
    return Run(path, manifest(names, **of_manifest), list(cases), [], list(quality))


def changed(row, scheme, **arm):
    """Return a row with keys of one of its arms changed."""
    return row.model_copy(update={"arms": row.arms | {scheme: row.arms[scheme].model_copy(update=arm)}})


def with_(model, **changes):
    """Return a row, a run's manifest or a part of one with other values."""
    return model.model_copy(update=changes)
