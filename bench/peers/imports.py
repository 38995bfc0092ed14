"""Imports the modules of a checkout on today's libraries: stand-ins for packages that the step never uses.

Meant for a process of its own: what is imported stays.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import nn

from bench.peers.peer import Changes
from osgan.errors import InputError


def parse(file: Path) -> ast.Module:
    """Parse a file of a checkout; raises InputError where it is not there or not Python."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"), str(file))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; the adapter needs this file of the checkout") from None
    except (SyntaxError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a Python file: {error}") from None


@contextmanager
def importing(file: Path) -> Iterator[None]:
    """Say which package or name is missing when the code of `file` cannot be imported."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "?").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and importlib.util.find_spec(package) is None:
            raise InputError(
                f"{file} needs the package {package!r}, which is not installed: pip install {package}"
            ) from error
        raise InputError(f"{file} cannot be imported: {error}; the adapter was written for another version") from error


def load_script(file: Path, root: Path, changes: Changes) -> ModuleType:
    """Import a script of the checkout `root` as a module, without running its `__main__` part."""
    tree = parse(file)
    search(root)
    with importing(file):
        _supply_unused_names(tree, file, root, changes)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def search(root: Path) -> None:
    """Let the checkout's packages be found first."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))


def needed(module: ModuleType, name: str, file: Path) -> Any:
    """Return an attribute of a checkout's module; raises InputError where it is gone."""
    if not hasattr(module, name):
        raise InputError(f"{file} has no {name!r}, which the adapter looks for: the checkout is of another version")
    return getattr(module, name)


def stand_in(packages: Mapping[str, Sequence[str]], changes: Changes, why: str, **supplied: Any) -> None:
    """Put modules where packages that are not installed would be: package -> the module names that need it.

    They are empty, but for what is supplied.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    names = [name for package in missing for name in packages[package]]
    for name in names:
        sys.modules.pop(name, None)
    if missing:
        sys.meta_path.insert(0, _Finder(tuple(names), supplied))
    for package in missing:
        what = f"a module with {' and '.join(supplied)} alone" if supplied else "an empty module"
        changes.patch(f"{package} is not installed: {what} stands in for it ({why})")


@contextmanager
def lent(**modules: ModuleType) -> Iterator[None]:
    """Let imports find other modules under these names, for a while."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


class Overridden:
    """A module as some code is to see it: its own, but for a few names."""

    def __init__(self, module: ModuleType, **names: Any) -> None:
        self._module = module
        self.__dict__ |= names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def stay_on_cpu(changes: Changes) -> None:
    """Let .cuda() move nothing, in a run without a GPU."""

    def stay(self: Any, *_: Any, **__: Any) -> Any:
        return self

    torch.Tensor.cuda = stay  # type: ignore[method-assign]
    nn.Module.cuda = stay  # type: ignore[method-assign]
    changes.patch("Tensors and modules stay where they are at .cuda(), for there is no GPU in this run.")


def split(file: Path, body: Sequence[ast.stmt], loader: str) -> tuple[CodeType, CodeType, str]:
    """Compile what comes before the loop over epochs, and the loop over `loader` in it; and name the epoch.

    A loop over epochs is one over a name that holds a loop over the loader. Raises InputError where there is none.
    """
    for place, outer in enumerate(body):
        if isinstance(outer, ast.For) and isinstance(outer.target, ast.Name):
            for inner in outer.body:
                if isinstance(inner, ast.For) and _reads(inner.iter, loader):
                    set_up, over_batches = (compiled(file, part) for part in (body[:place], [inner]))
                    return set_up, over_batches, outer.target.id
    raise InputError(
        f"{file}: no loop over `{loader}` within a loop over epochs, which the adapter looks for: the checkout is of "
        "another version"
    )


def compiled(file: Path, body: Sequence[ast.stmt]) -> CodeType:
    """Compile statements of a file."""
    return compile(ast.Module(list(body), type_ignores=[]), str(file), "exec")


def function(file: Path, name: str) -> ast.FunctionDef:
    """Return a function of a file, unexecuted; raises InputError where there is none."""
    for node in parse(file).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise InputError(f"{file} has no {name!r}, which the adapter looks for: the checkout is of another version")


def _reads(expression: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(expression))


class StandIn(ModuleType):
    """A module of which every name is a class that takes anything and does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *_, **__: None})


class _Finder(MetaPathFinder, Loader):
    def __init__(self, names: tuple[str, ...], supplied: Mapping[str, Any]) -> None:
        self.names = names
        self.supplied = supplied

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        mine = any(fullname == name or fullname.startswith(f"{name}.") for name in self.names)
        return ModuleSpec(fullname, self, is_package=True) if mine else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self.supplied)


def _supply_unused_names(tree: ast.Module, file: Path, root: Path, changes: Changes) -> None:
    """Give the checkout's modules the names that a script imports from them in vain, if it never uses them."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom) or node.level or node.module is None:
            continue
        place = root.joinpath(*node.module.split("."))
        if not place.with_suffix(".py").is_file() and not (place / "__init__.py").is_file():
            continue
        module = importlib.import_module(node.module)
        for alias in node.names:
            here = alias.asname or alias.name
            submodule = (place / f"{alias.name}.py").is_file() or (place / alias.name).is_dir()
            if here not in used and not hasattr(module, alias.name) and not submodule:
                setattr(module, alias.name, None)
                changes.patch(
                    f"{file.name} imports {alias.name} from {node.module}, which has no such name, and never uses it: "
                    "None stands in for it"
                )
