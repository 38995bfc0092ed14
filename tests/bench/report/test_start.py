"""Reports need no training code, and a command that only says how it is used does not wait for what draws."""

import subprocess
import sys
from pathlib import Path

RUN = next((Path(__file__).parents[1] / "fixtures").glob("format-2/everything/*"))
SLOW = ("torch", "torchvision", "torch_fidelity")
DRAWING = ("matplotlib", "pandas", "scipy")
PROGRAM = """
import sys
from pathlib import Path
import bench.report, bench.report.formats, bench.report.terminal, bench.analysis.speedup, bench.analysis.targets
from bench import results
from rich.console import Console
print(*[name for name in {names!r} if name in sys.modules])
run = results.load(Path(sys.argv[1]))
bench.report.write([run], Path(sys.argv[2]))
bench.report.formats.speedup_csv([run])
bench.report.terminal.show(Console(quiet=True), [run])
print(*[name for name in {slow!r} if name in sys.modules])
"""


def test_a_report_is_written_without_pytorch_and_the_import_is_light(tmp_path):
    program = PROGRAM.format(names=SLOW + DRAWING, slow=SLOW)
    done = subprocess.run(
        [sys.executable, "-c", program, str(RUN), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "\n\n"), done.stderr
