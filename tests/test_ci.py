"""How CI ends for every status of the gate, with a stand-in for Python; that it tests what pyproject.toml promises."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("status", "ends"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 0), (139, 139)])
def test_only_a_machine_that_cannot_tell_is_forgiven(tmp_path, status, ends):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "**verdict** of $*"\nexit {status}\n')
    python.chmod(0o755)
    summary = tmp_path / "summary.md"
    environment = {**os.environ, "PYTHON": str(python), "GITHUB_STEP_SUMMARY": str(summary)}
    gate = ROOT / ".ci" / "gate"
    done = subprocess.run(["bash", gate], env=environment, capture_output=True, text=True)
    assert done.returncode == ends
    assert ("::warning" in done.stdout) is (status == 4)
    assert summary.read_text() == "**verdict** of -m bench regress --device cpu --format markdown\n"


def test_both_ends_of_the_promised_pytorch_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["bounds"]["strategy"]["matrix"]
    (lowest,) = matrix["include"]
    assert matrix["resolution"] == ["lowest-direct", "highest"]
    assert lowest["resolution"] == "lowest-direct"
    assert project["dependencies"] == [f"torch>={lowest['torch']}"]
    assert f"needs PyTorch {lowest['torch']} or newer alone" in (ROOT / "README.md").read_text(encoding="utf-8")
