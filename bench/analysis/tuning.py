"""What searches for settings chose: for one case, or for all cases together."""

import math
from collections.abc import Iterable

from bench.results import QualityRow

Setting = dict[str, float]
Key = tuple[tuple[str, float], ...]


def chosen_settings(searches: Iterable[QualityRow]) -> dict[str, Setting]:
    """Return by scheme the setting with the lowest geometric mean of its values over all searches.

    A setting that has no value in one of the cases is out; so is a scheme without any left. Of values that are not
    all above 0 it is the mean.
    """
    values: dict[str, dict[Key, list[float | None]]] = {}
    cases = set()
    for row in searches:
        cases.add(row.case_name)
        for scheme, found in (row.tuned or {}).items():
            of_scheme = values.setdefault(scheme, {})
            for trial in found.trials:
                of_scheme.setdefault(tuple(trial.setting.items()), []).append(trial.value)
    chosen = {}
    for scheme, of_scheme in values.items():
        known = {key: [value for value in tried if value is not None] for key, tried in of_scheme.items()}
        means = {key: _mean(tried) for key, tried in known.items() if len(tried) == len(cases)}
        if means:
            best = min(means, key=means.__getitem__)
            chosen[scheme] = dict(best)
    return chosen


def _mean(values: list[float]) -> float:
    return sum(map(math.log, values)) if min(values) > 0 else sum(values)
