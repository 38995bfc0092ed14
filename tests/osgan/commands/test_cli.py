import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import osgan
from osgan.commands import cli


@pytest.fixture
def osgan_here(monkeypatch, capsys):
    """Run the command in this process and return its exit status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["osgan", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return run


def test_the_version_is_printed_alone():
    done = subprocess.run([sys.executable, "-m", "osgan", "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"osgan {osgan.__version__}\n", "")


@pytest.mark.parametrize("command", ["", "data", "distill", "predict", "sample", "train", "verify"])
def test_every_command_explains_itself(osgan_here, command):
    status, out, _ = osgan_here(*command.split(), "--help")
    assert status == 0
    assert out.startswith("Usage: ")
    assert "--help" in out


def test_verify_says_exact_and_why(osgan_here):
    status, out, _ = osgan_here("verify", "--architecture", "dcgan32+width=8", "--loss", "lsgan", "--json")
    row = json.loads(out)
    assert status == 0
    assert row["exact"] is True
    assert 0 <= row["generator_error"] < 1e-5
    assert row["cross_sample_derivative"] == 0


def test_verify_says_inexact_and_the_way_out(osgan_here):
    status, out, _ = osgan_here("verify", "--architecture", "dcgan32+width=8+norm=batch", "--loss", "lsgan")
    assert status == 1
    assert out.splitlines()[0] == "NOT EXACT"
    assert "Simultaneous" in out.replace("\n", " ")


def test_predict_counts_every_scheme(osgan_here):
    status, out, _ = osgan_here("predict", "--architecture", "dcgan64+width=16", "--batch-size", "2", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["ceilings"]["one_stage"] == 1.0
    assert 1.3 < found["ceilings"]["two_stage"] < 1.5
    assert found["flops"]["two_stage"] > found["flops"]["one_stage"] > 1e6
    assert found["reasons"] == {}


def test_predict_prints_a_table(osgan_here):
    status, out, _ = osgan_here("predict", "--architecture", "dcgan32+width=4", "--dataset", "digits")
    assert status == 0
    assert "two_stage_reused_frozen" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "--loss", "hing"], "unknown loss 'hing'. Did you mean 'hinge'?"),
        (["verify", "--architecture", "dcgan"], "unknown architecture 'dcgan'. Did you mean 'dcgan"),
        (["verify", "--dataset", "digit"], "unknown dataset 'digit'. Did you mean 'digits'?"),
        (["verify", "--batch-size", "5000"], "batch size 5000"),
        (["predict", "--device", "cuda:9"], "device 'cuda:9' is not there"),
        (["predict", "--architecture", "no.such.module:build"], "cannot import 'no.such.module'"),
    ],
)
def test_a_mistake_exits_2_with_one_message(osgan_here, arguments, message):
    status, out, errors = osgan_here(*arguments)
    assert status == 2
    assert message in errors
    assert out == ""


def test_the_installed_command(tmp_path):
    (tmp_path / "theirs.py").write_text(
        "from torch import nn\n"
        "def build(channels, resolution):\n"
        "    pixels = channels * resolution**2\n"
        "    G = nn.Sequential(nn.Linear(7, pixels), nn.Tanh(), nn.Unflatten(1, (channels, resolution, resolution)))\n"
        "    G.latent_dim = 7\n"
        "    return G, nn.Sequential(nn.Flatten(), nn.Linear(pixels, 16), nn.LeakyReLU(), nn.Linear(16, 1))\n"
    )
    command = [sys.executable, "-m", "osgan", "verify", "--architecture", "theirs:build", "--loss", "rpgan"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(tmp_path), "PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert "theirs:build" in done.stdout


def test_the_console_script_finds_modules_in_the_current_folder(tmp_path):
    script = shutil.which("osgan", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("osgan is not installed here")
    (tmp_path / "nearby.py").write_text("def build(channels, resolution):\n    raise RuntimeError('reached')\n")
    done = subprocess.run(
        [script, "verify", "--architecture", "nearby:build"], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "RuntimeError: reached" in done.stderr
    assert "Traceback" not in done.stderr
