"""Which machine a run was on: results of two machines are never pooled."""

import builtins
import io
import subprocess

import pytest
import torch

from bench.machine import facts

INTEL = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Processor\n\nprocessor\t: 1\nmodel name\t: another\n"
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: {part}\nCPU variant\t: 0x3\n\n"


@pytest.fixture
def cpuinfo(monkeypatch):
    def put(text):
        real = builtins.open

        def fake(path, *given, **options):
            if str(path) != "/proc/cpuinfo":
                return real(path, *given, **options)
            if text is None:
                raise FileNotFoundError(path)
            return io.StringIO(text)

        monkeypatch.setattr(builtins, "open", fake)
        return facts._cpu_name()

    return put


def test_a_processor_with_a_name(cpuinfo):
    assert cpuinfo(INTEL) == "Intel(R) Xeon(R) Processor"


def test_two_arm_processors_are_two_machines(cpuinfo):
    graviton_2, graviton_4 = (cpuinfo(ARM.format(part=part)) for part in ("0xd0c", "0xd4f"))
    assert graviton_2 != graviton_4
    assert "0x41 0xd0c 0x3" in graviton_2


def test_without_a_file_the_platform_says_what_it_can(cpuinfo):
    assert cpuinfo(None)


@pytest.mark.parametrize(("said", "name"), [("Apple M3 Max\n", "Apple M3 Max"), (None, "arm64")])
def test_on_macos_the_system_names_the_processor(monkeypatch, said, name):
    asked = []

    def sysctl(command, **_):
        asked.append(command)
        if said is None:
            raise FileNotFoundError("sysctl")
        return subprocess.CompletedProcess(command, 0, said)

    monkeypatch.setattr(facts.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(facts.platform, "processor", lambda: "arm")  # of every one of them
    monkeypatch.setattr(facts.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(facts.subprocess, "run", sysctl)
    assert facts._cpu_name() == name
    assert asked == [["sysctl", "-n", "machdep.cpu.brand_string"]]


def test_what_moves_numbers_is_noted_whether_it_is_set_or_not(monkeypatch):
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    monkeypatch.setenv("KMP_AFFINITY", "compact")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    found = facts.describe(torch.device("cpu")).environment
    assert (found["CUDA_LAUNCH_BLOCKING"], found["KMP_AFFINITY"]) == ("1", "compact")
    assert "NVIDIA_TF32_OVERRIDE" in found
    assert found["NVIDIA_TF32_OVERRIDE"] is None


def test_the_governor_is_read_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.setattr(facts, "GOVERNOR", tmp_path / "scaling_governor")
    assert facts._governor() is None
    (tmp_path / "scaling_governor").write_text("schedutil\n")
    assert facts._governor() == "schedutil"
