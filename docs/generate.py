"""The reference pages that the code writes: the suites' schema and the results' from their models, the commands."""

import json
from pathlib import Path
from typing import Any

import typer
import typer.cli

from bench.cli import app as bench_app
from bench.results import CaseRow, Manifest, QualityRow
from bench.suite.model import Suite
from osgan.commands.cli import app as osgan_app

FAR = 1e9
"""A bound beyond this keeps a number a number, and is not worth a reader's time."""
RESULTS_HEAD = Path(__file__).with_name("results.md")
FILES = {"run.json": Manifest, "cases.jsonl": CaseRow, "quality.jsonl": QualityRow}
PROGRAMS = {"osgan": osgan_app, "bench": bench_app}

SUITES_HEAD = """\
# Suites

A suite is a YAML file: `suites/NAME.yaml`, run as `python -m bench run NAME`, or a file of yours by its path. It is
validated as a whole before anything runs; an error names the file, the key, the value and what would be accepted. Made
from the schema (`bench/suite`), so this page is what the program accepts.

A suite of three cases, which runs on any machine:

```yaml
name: mine
about: Three losses on digits
matrix:
  dataset: digits
  architecture: dcgan32+width=16
  loss: [nonsaturating, hinge, wgan+weight_clipping=0.1]
  batch_size: 32
optimizer: {generator_lr: 1e-3, discriminator_lr: 1.5e-4}
timing: {budget_s: 10}
```

An axis of a matrix takes one value or a list; the product of the axes gives the cases, and every case has an arm for
each scheme. How names are written: `dataset` in [data](data.md), `architecture` in [architectures](architectures.md),
`engine` in [engines](engine.md), `loss` with its regularizers as `rpgan+r1=0.05+r2=0.05`,
[lazily](method.md#penalties-now-and-then) as `r1=10/16`; `augmentation` and the newer keys of `optimizer` in
[the recipe of 2026](penalties.md). Data sets, networks and augmentations may be import paths of your own.

"""

COMMANDS_HEAD = """\
# Commands

`osgan` is installed with the package; `python -m bench` runs from the repository. Made from the programs themselves. A
mistake in what was asked prints one message and exits with status 2.

"""


def suites_page() -> str:
    """Return the reference of a suite's keys as Markdown."""
    schema = Suite.model_json_schema()
    sections = [SUITES_HEAD + _section("A suite", schema)]
    sections += [_section(name, schema["$defs"][name]) for name in _in_order(schema)]
    return "\n".join(sections)


def results_page() -> str:
    """Return what is written of the results, and the reference of every key of their files, as Markdown."""
    sections: dict[str, str] = {}
    for file, model in FILES.items():
        schema = model.model_json_schema(mode="serialization")
        sections[file] = _section(file, schema)
        sections |= {name: _section(name, schema["$defs"][name]) for name in _in_order(schema) if name not in sections}
    return "\n".join([RESULTS_HEAD.read_text(encoding="utf-8"), *sections.values()])


def commands_page() -> str:
    """Return the reference of both programs as Markdown."""
    pages = [_command_page("osgan", PROGRAMS["osgan"]), _command_page("python -m bench", PROGRAMS["bench"])]
    return COMMANDS_HEAD + "\n".join(pages)


def _command_page(name: str, app: typer.Typer) -> str:
    command = typer.main.get_command(app)
    context = command.make_context(name, [], resilient_parsing=True)
    page = typer.cli.get_docs_for_click(obj=command, ctx=context, name=name)
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in page.splitlines()) + "\n"


def _in_order(schema: dict[str, Any]) -> list[str]:
    """Return the names of the parts in the order in which a reader of the page meets them."""
    found: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            name = node.get("$ref", "").rpartition("/")[2]
            if name and name not in found and "properties" in schema["$defs"][name]:
                found.append(name)
                visit(schema["$defs"][name]["properties"])
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(schema["properties"])
    return found


def _section(title: str, model: dict[str, Any]) -> str:
    rows = [
        f"| `{key}` | {_type(field)} | {_default(field, key in model.get('required', ()))} | {_meaning(field)} |"
        for key, field in model["properties"].items()
    ]
    about = model.get("description", "")
    return "\n".join(
        [f"## {title}", "", about, "", "| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _meaning(field: dict[str, Any]) -> str:
    return " ".join(field.get("description", "").split())


def _default(field: dict[str, Any], required: bool) -> str:
    if required:
        return "needed"
    if field.get("default") and isinstance(field["default"], dict):
        return "as below"
    return f"`{json.dumps(field['default'])}`" if "default" in field else "a [plain variant](#variant)"


def _type(field: dict[str, Any]) -> str:
    """Say in words what a key takes."""
    if reference := field.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := field.get("enum"):
        return " or ".join(f"`{choice}`" for choice in choices)
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        options = sorted(field["anyOf"], key=lambda item: item.get("type") != "null")
        return " or ".join(_type(item) for item in options)
    kind = field.get("type")
    if kind == "array":
        if items := field.get("prefixItems"):
            return "list of " + ", ".join(_type(item) for item in items)
        return f"list of {_type(field['items'])}" + (", at least one" if field.get("minItems") else "")
    if kind == "object":
        keys = _type(field["propertyNames"]) if "enum" in field.get("propertyNames", {}) else "a name"
        (values, *_) = field.get("patternProperties", {"": field.get("additionalProperties")}).values()
        return f"mapping of {keys} to {_type(values) if isinstance(values, dict) else 'anything'}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words.get(kind or "", kind or "anything") + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "up to {}",
        "exclusiveMaximum": "below {}",
    }
    found = [text.format(f"{field[key]:g}") for key, text in words.items() if abs(field.get(key, FAR)) < FAR]
    return " " + ", ".join(found) if found else ""
