"""What a search for settings chose, of all its parts."""

from collections.abc import Iterable
from typing import Any

from bench.results import QualityRow
from bench.suite.tune import best_setting


def chosen_settings(search: Iterable[QualityRow]) -> dict[str, dict[str, float]]:
    """Return the best setting of all parts of a search, by scheme; a scheme without any is left out."""
    trials: dict[str, list[dict[str, Any]]] = {}
    for row in search:
        for scheme, found in (row.tuned or {}).items():
            trials.setdefault(scheme, []).extend(trial.model_dump() for trial in found.trials)
    best = {scheme: best_setting(tried) for scheme, tried in trials.items()}
    return {scheme: setting for scheme, setting in best.items() if setting}
