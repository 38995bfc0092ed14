"""How CI ends for every status of the gate, with a stand-in for Python."""

import os
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize(("status", "ends"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 0), (139, 139)])
def test_only_a_machine_that_cannot_tell_is_forgiven(tmp_path, status, ends):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "**verdict** of $*"\nexit {status}\n')
    python.chmod(0o755)
    summary = tmp_path / "summary.md"
    environment = {**os.environ, "PYTHON": str(python), "GITHUB_STEP_SUMMARY": str(summary)}
    gate = Path(__file__).parents[1] / ".ci" / "gate"
    done = subprocess.run(["bash", gate], env=environment, capture_output=True, text=True)
    assert done.returncode == ends
    assert ("::warning" in done.stdout) is (status == 4)
    assert summary.read_text() == "**verdict** of -m bench regress --device cpu --format markdown\n"
