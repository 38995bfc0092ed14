import json
import os
import subprocess
import sys

import pytest
import torch

from bench import cli
from bench.peers import runner
from bench.peers.measuring import Job
from bench.peers.peer import Settings
from bench.peers.worker import empty_record

NO_LOOP = {"dcgan/main.py": "import torch\n"}


@pytest.fixture
def peers(tmp_path, monkeypatch, capfd):
    """Run the command in this process, without the seconds that PyTorch's import takes; checkouts have their own."""

    def run(*words):
        places = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
        monkeypatch.setattr(sys, "argv", ["bench", "peers", *map(str, words), *places])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capfd.readouterr()
        return subprocess.CompletedProcess(words, end.value.code, said.out, said.err)

    return run


def _run_folder(tmp_path):
    (folder,) = (tmp_path / "results" / "peers").iterdir()
    return folder, json.loads((folder / "peers.json").read_text())


def test_three_checkouts_from_the_command_to_the_report(checkout, peers, tmp_path):
    roots = [checkout(key) for key in ("osgan", "mimicry", "pytorch-dcgan")]
    subprocess.run(["git", "init", "--quiet", str(roots[1])], check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = ["git", "-C", str(roots[1]), *author, "commit", "--quiet", "--allow-empty", "-m", "x"]
    subprocess.run(commit, check=True)
    words = [word for root in roots for word in ("--repo", root)]
    done = peers(*words, "--device", "cpu", "--batch-size", "4", "--width", "8", "--rounds", "3")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    folder, record = _run_folder(tmp_path)
    assert [peer["key"] for peer in record["peers"]] == ["osgan", "mimicry", "pytorch-dcgan"]
    for peer in record["peers"]:
        assert (peer["status"], peer["reason"]) == ("ok", None)
        assert peer["patched"]
        assert peer["remarks"]
        for case in peer["cases"]:
            assert case["ended_by"] == "rounds"
            assert case["about"]["batch_size"] == 4
            for arm in case["arms"].values():
                assert len(arm["wall_ms"]) == 3
                assert all(time_ms > 0 for time_ms in arm["wall_ms"])
            for check in case["checks"]:
                assert check["generator_error"] < 1e-5
    assert [peer["commit"] is None for peer in record["peers"]] == [True, False, True]
    assert record["peers"][1]["dirty"] is False  # nothing was written into the checkout
    assert str(tmp_path) not in json.dumps(record)

    report = tmp_path / "reports" / "peers" / folder.name / "report.md"
    assert done.stdout.splitlines()[-1] == f"report: {report}"
    text = report.read_text()
    assert "This run had no GPU" in text
    assert text.count("not judged: no GPU") == 6
    report.unlink()
    assert peers("--again", folder).returncode == 0
    assert report.read_text() == text


def test_a_loop_with_several_losses_from_the_command_to_the_report(checkout, peers, tmp_path):
    root = checkout("studiogan")
    done = peers("--repo", root, "--device", "cpu", "--rounds", "3", "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    folder, record = _run_folder(tmp_path)
    (case,) = record["peers"][0]["cases"]
    assert record["format"] == 2
    assert any("from a folder is timed for" in remark for remark in record["peers"][0]["remarks"])
    assert (case["name"], case["about"]["batch_size"], case["about"]["width"]) == ("BigGAN 32x32", 8, 24)
    assert list(case["arms"]) == ["theirs", "ours osgan.backward"]
    for arm in case["arms"].values():
        assert len(arm["wall_ms"]) == 3
        assert arm["weights_finite"]
    assert case["arms"]["theirs"]["flops"] > case["arms"]["ours osgan.backward"]["flops"] > 0
    assert [check["theirs"] for check in case["checks"]] == ["theirs", "autograd of their losses"] * 2
    text = (tmp_path / "reports" / "peers" / folder.name / "report.md").read_text()
    assert "one forward pass, one backward pass through D" in text
    assert "GFLOPs a step" in text
    assert str(tmp_path) not in json.dumps(record)


def test_a_checkout_that_fails_is_a_row_and_the_others_are_measured(checkout, peers, tmp_path):
    broken, good = checkout("pytorch-dcgan", **NO_LOOP), checkout("mimicry")
    done = peers("--repo", broken, "--repo", good, "--device", "cpu", "--batch-size", "4", "--rounds", "2")
    assert done.returncode == 2
    assert "no loop over `dataloader`" in done.stderr
    assert "Traceback" not in done.stderr
    folder, record = _run_folder(tmp_path)
    assert [peer["status"] for peer in record["peers"]] == ["failed", "ok"]
    assert "**failed**: " in (tmp_path / "reports" / "peers" / folder.name / "report.md").read_text()


def test_only_the_cases_asked_for(checkout, peers, tmp_path):
    done = peers("--repo", checkout("osgan"), "--device", "cpu", "--batch-size", "4", "--only", "symm", "--rounds", "2")
    assert done.returncode == 0, done.stderr
    _, record = _run_folder(tmp_path)
    assert [case["name"] for case in record["peers"][0]["cases"]] == ["asymmetric", "symmetric"]
    done = peers("--repo", tmp_path / "checkout-osgan", "--device", "cpu", "--only", "none")
    assert done.returncode == 2
    assert "there is: asymmetric, symmetric, wgan" in done.stderr


def _ends_after_its_first_case(job, connection):
    record = empty_record(job) | {"status": "ok", "reason": None, "cases": [{"name": "the first"}]}
    connection.send(("record", record))
    os._exit(3)


def test_a_process_that_ends_after_its_first_case_is_no_success(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "main", _ends_after_its_first_case)
    settings = Settings(device=torch.device("cpu"), batch_size=4, width=8, resolution=32)
    job = Job(key="mimicry", path=checkout("mimicry"), settings=settings)
    (peer,) = runner.load(runner.run([job], tmp_path, "peers", lambda what: None))["peers"]
    assert (peer["status"], len(peer["cases"])) == ("failed", 1)
    assert peer["reason"] == "its process ended with exit status 3 after 1 cases"
