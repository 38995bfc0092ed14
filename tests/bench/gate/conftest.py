import numpy as np
import pytest

from bench import results
from tests.bench.gate.made import SPEEDUPS, record, run


@pytest.fixture
def kept(tmp_path):
    """Keep runs of the gate as they lie on the disk, one a commit; returns the folder of results."""

    def keep(slower, *, cpu="Some CPU", day=1, names="ab"):
        """`slower`: factors of one-stage's time, run by run; in case a alone."""
        rng = np.random.default_rng(100 + day)
        for number, factor in enumerate(slower):
            stamp = f"2026-11-{day:02}T{number:02}:00:00+00:00"
            folder = tmp_path / "results" / "regress" / f"202611{day:02}T{number:02}0000Z_{cpu.replace(' ', '-')}_x"
            folder.mkdir(parents=True)
            rows = []
            for name in names:
                noise = {scheme: np.exp(rng.normal(0, 0.008) + rng.normal(0, 0.02, 20)) for scheme in SPEEDUPS}
                rows.append(record(name, slower=factor if name == "a" else 1.0, noise=noise))
            made = run(*rows, cpu=cpu, commit=f"{day:02}c{number:07}", started=stamp)
            (folder / "run.json").write_text(made.manifest.model_dump_json())
            for row in rows:
                results.append(folder, row.model_copy(update={"machine": made.manifest.machine}))
        return tmp_path / "results"

    return keep
