"""Every code block of README and docs/ runs, or says in a comment why it cannot and is checked as far as that goes.

Python runs page by page, in order. Commands run in this process, in an empty folder that has the suites and the
reference results; every option of those that do not run must exist. YAML is a suite or a part of one. Comments before a
block: `<!-- not run: why -->`, `<!-- output -->` (what the Python above prints), `<!-- exit status 1 -->`, and
`<!-- setup ... -->`, Python that the page does not show.
"""

import contextlib
import glob
import io
import json
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import typer
import yaml
from markdown_it import MarkdownIt

from bench.suite.model import Suite

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))
from generate import PROGRAMS, suites_page  # noqa: E402

FREE = ("", "text", "diff")
SHELL = ("sh", "bash")
UNSHOWN = {
    "README.md": """
import torch
from osgan import nets
G, D = nets.dcgan(resolution=16, width=4, channels=1)
build_generator, build_discriminator = lambda: G, lambda: D
batches = [torch.rand(4, 1, 16, 16) * 2 - 1 for _ in range(2)]
"""
}
SMALLEST_SUITE = {
    "name": "part",
    "matrix": {"dataset": "digits", "architecture": "mlp", "loss": "hinge", "batch_size": 8},
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str
    comment: str

    def __str__(self):
        return f"{self.page}:{self.line}"

    @property
    def runs(self):
        return not self.comment.startswith("not run:")


def blocks_of(page, text):
    found, comment = [], ""
    for token in MarkdownIt().parse(text):
        if token.type == "html_block" and token.content.startswith("<!--"):
            comment = token.content.strip().removeprefix("<!--").removesuffix("-->").strip()
            if comment.startswith("setup"):
                found.append(Block(page, token.map[0] + 1, "python", comment.removeprefix("setup"), ""))
        elif token.type in ("fence", "code_block"):
            language = token.info.split()[0] if token.info else "indented" * (token.type == "code_block")
            found.append(Block(page, token.map[0] + 1, language, token.content, comment))
            comment = ""
        elif token.type != "html_block":
            comment = ""
    return found


def all_blocks():
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        found += blocks_of(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    return found + blocks_of("suites.md, generated", suites_page())


BLOCKS = all_blocks()


def parametrize(blocks):
    return pytest.mark.parametrize("block", [pytest.param(block, id=str(block)) for block in blocks])


def is_command(line):
    return re.match(r"(\S+=\S+ )*(osgan|python -m (osgan|bench|examples)|make|torchrun|pip) ?", line)


def commands_in(block):
    """Return the commands of a block as lists of words, without comments and continuations."""
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language not in SHELL:
        lines = [line for line in lines if is_command(line)]
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [[w for i, w in enumerate(ws) if i or "=" not in w] for ws in words if ws]


def program_of(words):
    """Return which program of ours a command starts, and its arguments; None for another."""
    for index, word in enumerate(words):
        launched = index and words[index - 1] == "-m"
        if word in PROGRAMS and (launched or index == 0):
            return word, words[index + 1 :]
    return None


@contextlib.contextmanager
def as_at_home(folder, monkeypatch):
    """Run in a folder that has what a checkout has, without its results, and with another home."""
    (folder / "results").mkdir()
    for name in ("suites", "examples", "results/reference"):
        (folder / name).symlink_to(ROOT / name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("OSGAN_DATA", raising=False)
    with torch.random.fork_rng([]):
        yield


def pages_with_python():
    return sorted({block.page for block in BLOCKS if block.language == "python"})


@pytest.mark.parametrize("page", pages_with_python())
def test_python_runs(page, tmp_path, monkeypatch):
    names, printed = {}, ""
    with as_at_home(tmp_path, monkeypatch):
        exec(UNSHOWN.get(page, ""), names)
        for block in (block for block in BLOCKS if block.page == page):
            if block.language == "python":
                compiled = compile("\n" * block.line + block.code, ROOT / page, "exec")
                if block.runs:
                    output = io.StringIO()
                    with contextlib.redirect_stdout(output):
                        exec(compiled, names)
                    printed = output.getvalue()
            elif block.comment == "output":
                assert block.code.split() == printed.split(), str(block)


@parametrize([block for block in BLOCKS if block.language in SHELL and block.runs])
def test_commands_run(block, tmp_path, monkeypatch, capsys):
    with as_at_home(tmp_path, monkeypatch):
        for words in commands_in(block):
            if words[0] == "make":
                continue  # its target is looked up below
            assert program_of(words), f"{words[0]}: cannot be run here; say so in `<!-- not run: why -->`"
            name, arguments = program_of(words)
            arguments = [path for word in arguments for path in (glob.glob(word) if "*" in word else [word])]  # noqa: PTH207
            monkeypatch.setattr(sys, "argv", [name, *arguments])
            command = typer.main.get_command(PROGRAMS[name])
            status = command.main(arguments, prog_name=name, standalone_mode=False) or 0
            capsys.readouterr()
            assert status == (1 if block.comment == "exit status 1" else 0), words


@parametrize([block for block in BLOCKS if commands_in(block)])
def test_commands_and_their_options_exist(block):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for words in commands_in(block):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= set(targets), words
        if words[0] == "pip":
            assert set(re.findall(r"\[(\w+)\]", " ".join(words))) <= set(extras), words
        if not program_of(words):
            continue
        name, arguments = program_of(words)
        command = typer.main.get_command(PROGRAMS[name])
        while hasattr(command, "commands") and arguments:
            name, arguments = arguments[0], arguments[1:]
            assert name in command.commands, words
            command = command.commands[name]
        command.make_context(name, list(arguments))  # raises for an option or a value that the command does not take


@parametrize([block for block in BLOCKS if block.language == "yaml" and block.runs])
def test_suites_are_valid(block):
    given = yaml.safe_load(block.code)
    Suite.model_validate(given if "name" in given else SMALLEST_SUITE | given)


@parametrize([block for block in BLOCKS if block.language in ("json", "jsonl")])
def test_json_is_json(block):
    for text in block.code.splitlines() if block.language == "jsonl" else [block.code]:
        json.loads(text)


def test_every_block_says_what_it_is():
    known = (*FREE, *SHELL, "python", "yaml", "json", "jsonl")
    strange = [f"{block}: {block.language}" for block in BLOCKS if block.language not in known]
    assert not strange, "use a fence with one of these languages, so that the block is checked"
    assert all(len(block.comment) > 12 for block in BLOCKS if not block.runs), "say why a block is not run"


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ("```sh\nosgan train --lr 1e-4 --out x\n```", test_commands_and_their_options_exist),
        ("```sh\nosgan trian\n```", test_commands_and_their_options_exist),
        ("```sh\nmake everything\n```", test_commands_and_their_options_exist),
        ("```\ntorchrun --nproc-per-node 2 -m osgan train --no-such\n```", test_commands_and_their_options_exist),
        ("```yaml\noptimizer: {lr: 1}\n```", test_suites_are_valid),
        ("```json\n{'a': 1}\n```", test_json_is_json),
    ],
)
def test_a_mistake_is_found(text, test):
    (block,) = blocks_of("page.md", text)
    with pytest.raises(Exception):  # noqa: B017, PT011
        test(block)
