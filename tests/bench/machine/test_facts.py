"""Which machine a run was on: results of two machines are never pooled."""

import builtins
import io

import pytest

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
