"""Whatever is typed, written or damaged ends in what was asked for or in one sentence, never in a traceback."""

import json
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.main import get_command

import bench.cli
import osgan.commands.cli
from bench import machine, results, suite
from bench.cli import app as bench_app
from bench.suite import files
from osgan import data, nets, spec
from osgan.commands import session
from osgan.commands.cli import app as osgan_app
from osgan.distill.settings import Settings, TeacherSettings
from osgan.errors import InputError
from osgan.latent import Gaussian
from osgan.regularizers import parse_loss
from osgan.training.engine import Engine
from osgan.training.recipe import Recipe
from osgan.training.schedule import Schedule

SUITES = sorted(Path("suites").glob("*.yaml"))
RUNS = sorted(Path("tests/bench/fixtures").glob("*/run.json")) or sorted(Path("results/reference").rglob("run.json"))
NASTY = (
    *("", " ", "nan", "inf", "-inf", "-1", "0", "1e400", "1" * 400, "1e+3", "None", "True", "[", "(", "[" * 300, "{}"),
    *("+", "+=", "a+b", "a=b", "mlp+", "mlp+=1", "mlp+width", "mlp+width=", "mlp+width=1+width=2", "../..", "/", "~no"),
    *("sys:exit", "os:system", "builtins:dict", "builtins:int", "json:nothing", "no.such:thing", ":", "a:", "math:pi"),
    *("\x00", "\x1b[31m", "\u202e", "é", "x" * 5000, "dcgan32+width=10**9", "mlp+width=-1", "mlp+width=1e9", "dcgan33"),
    *("lsun:", "zip:", "folder:", "zip:\x00", "folder:" + "x" * 300, "synthetic+images=0", "digits+a=1"),
    *("r1=1e999", "hinge+r1=a", "hinge+r1=1/0", "hinge+r1=1/a", "hinge+nothing=1", "cosine+num_steps=0", "linear+a=1"),
    *("eager+joint_batch=maybe", "eager+memory_format=3", "compile+a=b", "-----5", "1:30", "010", "!!int abc"),
)  # fmt: skip
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(max_size=20))
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([2**63, 10**30, float("nan"), float("inf"), True, None, "1"])
)
VALUES = st.recursive(
    st.one_of(TEXTS, NUMBERS, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)


def examples(number):
    return settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def sentence_or_value(action, *values):
    """Call; what is raised must be an InputError of one paragraph that says something."""
    try:
        return action(*values)
    except InputError as error:
        assert str(error).strip()  # noqa: PT017
        assert "Traceback" not in str(error)  # noqa: PT017
    return None


def ends(main, program, arguments, capsys):
    """Run a command line and return its exit status and messages; anything but an exit fails the test."""
    argv = sys.argv
    sys.argv = [program, *arguments]
    try:
        main()
    except SystemExit as end:
        status = end.code
    else:
        status = 0
    finally:
        sys.argv = argv
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status or 0, err


# --- command lines


def commands_of(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, (*path, name))
        else:
            yield (*path, name), command


OSGAN = dict(commands_of(get_command(osgan_app)))
BENCH = dict(commands_of(get_command(bench_app)))


@pytest.mark.parametrize("path", [(), ("data",), *OSGAN], ids=str)
def test_every_command_of_osgan_has_a_help(path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert ends(osgan.commands.cli.main, "osgan", [*path, "--help"], capsys)[0] == 0


@pytest.mark.parametrize("path", [(), *BENCH], ids=str)
def test_every_command_of_bench_has_a_help(path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert ends(bench.cli.main, "bench", [*path, "--help"], capsys)[0] == 0


TRAINED = [p.opts[0] for p in OSGAN[("train",)].params if p.name not in ("out", "device", "help")]
ASKED = {
    ("verify",): ("--architecture", "--loss", "--dataset", "--batch-size", "--device"),
    ("predict",): ("--architecture", "--loss", "--dataset", "--batch-size", "--n-critic", "--precision", "--latency"),
    ("data", "prepare"): ("--resolution", "--channels", "--data"),
    ("sample",): ("--n", "--seed", "--class", "--device"),
}  # fmt: skip
SMALL = {
    ("verify",): ["--architecture", "mlp+width=4+resolution=8", "--batch-size", "2", "--device", "cpu"],
    ("predict",): ["--architecture", "mlp+width=4+resolution=8", "--batch-size", "2", "--device", "cpu"],
    ("data", "prepare"): ["nothing:there", "no.zip"],
    ("sample",): ["no-such-run", "--out", "no-such-out"],
}


@examples(250)
@given(data=st.data())
def test_options_of_osgan(data, capsys):
    path = data.draw(st.sampled_from(sorted(ASKED)))
    option, value = data.draw(st.sampled_from(ASKED[path])), data.draw(TEXTS.filter(lambda text: "\x00" not in text))
    status, err = ends(osgan.commands.cli.main, "osgan", [*path, *SMALL[path], option, value], capsys)
    assert status in (0, 1, 2)
    if status == 2:
        assert err.strip()


@examples(250)
@given(option=st.sampled_from(TRAINED), values=st.lists(TEXTS, min_size=1, max_size=2))
def test_options_of_train(option, values, capsys, monkeypatch):
    monkeypatch.setattr(session, "run", lambda *given, **options: 0)  # what is asked for is read before
    status, err = ends(osgan.commands.cli.main, "osgan", ["train", "--out", "x", option, *values], capsys)
    assert status in (0, 2)
    if status == 2:
        assert err.strip()


BAD_NUMBERS = ("-1", "nan", "10" * 40, "a", "", "1.5", "1e9")


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize("option", ["--seed", "--images", "--batch-size", "--n-critic", "--keep", "--ema-half-life"])
def test_numbers_that_are_none_are_named(option, value, capsys, monkeypatch):
    monkeypatch.setattr(session, "run", lambda *given, **options: 0)
    status, err = ends(osgan.commands.cli.main, "osgan", ["train", "--out", "x", option, value], capsys)
    if (option, value) == ("--seed", "-1"):
        assert status == 0
    else:
        assert status == 2
        assert option.lstrip("-").replace("-", "_") in err.replace("-", "_")


@examples(150)
@given(arguments=st.lists(TEXTS, max_size=3), option=st.sampled_from(["--seed", "--only", "--exclude", "--stop-after"]))
def test_options_of_bench(arguments, option, capsys):
    status, err = ends(bench.cli.main, "bench", ["run", "smoke", "--dry-run", option, *arguments], capsys)
    assert status in (0, 2)
    assert status == 0 or err.strip()


@pytest.mark.parametrize("more", [["--seed", "3"], ["--only", "x"], ["--exclude", "x"]])
def test_what_does_not_go_with_resume(more, capsys, tmp_path):
    status, err = ends(bench.cli.main, "bench", ["run", "--resume", str(tmp_path), *more], capsys)
    assert status == 2
    assert more[0] in err


@pytest.mark.parametrize("seed", ["1" + "0" * 30, "-1"])
def test_a_seed_that_no_generator_takes(seed, capsys):
    assert ends(bench.cli.main, "bench", ["run", "smoke", "--dry-run", "--seed", seed], capsys)[0] == 2


# --- specs and settings


@examples(400)
@given(text=TEXTS, which=st.sampled_from(["parse", "build", "loss", "engine", "schedule", "data"]))
def test_specs(text, which):
    def build(written):
        with torch.device("meta"):
            nets.build(written, channels=1, num_classes=3)

    actions = {
        "parse": spec.parse,
        "build": build,
        "loss": parse_loss,
        "engine": Engine.parse,
        "schedule": lambda written: Schedule(written, num_steps=10),
        "data": lambda written: data.load(written, resolution=8, device="cpu"),
    }
    sentence_or_value(actions[which], text)


@examples(200)
@given(
    key=st.sampled_from(["width", "depth", "resolution", "latent_dim", "norm", "channels", "x"]), value=TEXTS | NUMBERS
)
def test_options_of_architectures(key, value):
    for name in ("mlp", "dcgan32", "r3gan32", "sngan32"):
        with torch.device("meta"):
            sentence_or_value(lambda n=name: nets.build(f"{n}+{key}={value}", channels=1))


@examples(200)
@given(changes=st.dictionaries(st.sampled_from([*Recipe.__dataclass_fields__]), VALUES, min_size=1, max_size=2))
def test_values_of_a_recipe(changes):
    good = {"dataset": "digits", "architecture": "mlp"}
    sentence_or_value(lambda: Recipe.from_dict(good | changes))


@examples(100)
@given(key=st.sampled_from([*Settings.__dataclass_fields__, "epochs", "lr"]), value=NUMBERS | TEXTS)
def test_values_of_a_distillation(key, value):
    for kind in (Settings, TeacherSettings):
        if key in kind.__dataclass_fields__:
            sentence_or_value(lambda k=kind: k(**{key: value}))


@examples(100)
@given(dim=VALUES, dtype=VALUES)
def test_latents(dim, dtype):
    sentence_or_value(Gaussian, dim, dtype)


# --- YAML and JSON


def mutated(value, draw):
    """Replace, drop or add something somewhere in plain data."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value, key=str)))
        return {**value, key: mutated(value[key], draw)}
    if isinstance(value, list) and value and draw(st.booleans()):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], mutated(value[index], draw), *value[index + 1 :]]
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, draw(TEXTS): draw(VALUES)}
    return draw(VALUES)


@examples(300)
@given(data=st.data())
def test_suites_that_are_changed_somewhere(data, tmp_path_factory):
    path = data.draw(st.sampled_from([p for p in SUITES if p.stem not in ("architectures", "gpu")]))
    changed = mutated(yaml.safe_load(path.read_text()), data.draw)
    file = tmp_path_factory.getbasetemp() / "changed.yaml"
    file.write_text(yaml.safe_dump(changed, allow_unicode=True))
    try:
        suite.load(str(file))
    except InputError as error:
        assert str(file) in str(error)  # noqa: PT017


YAML = (
    "a: !!int abc", "a: !!float abc", "a: !!timestamp abc", "a: !!bool abc", "name: 2001-13-45", "a: " + "9" * 5000,
    "a: " + "[" * 5000, "a: &x [*x]", "name: a\nname: b", "matrix: {dataset: digits, dataset: mnist}", "? [1]\n: 2",
    "!!python/object/apply:os.system [ls]", "\ufeffname: a", "- 1", "3", "", "\t", "a: b: c", "%YAML 9.9\n---\na: 1",
)  # fmt: skip


@pytest.mark.parametrize("text", YAML)
def test_yaml_that_is_no_suite(text, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"a\.yaml"):
        suite.load(str(file))


def test_a_mistake_in_yaml_is_named_by_its_line(tmp_path):
    file = tmp_path / "a.yaml"
    for text, message in (("name: a\nx: [1,\n", "line 3"), ("name: a\nname: b", "the key 'name' stands twice")):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            suite.load(str(file))


@examples(150)
@given(content=st.binary(max_size=60) | TEXTS.map(lambda text: text.encode("utf-8", "replace")))
def test_bytes_that_are_no_suite(content, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"bytes.yaml"):
        suite.load(str(file))


def test_numbers_are_what_is_written():
    found = yaml.load("a: 010\nb: 1:30\nc: 10\nd: 2001-01-01\ne: 2e-4\nf: -3", Loader=files._Loader)
    assert found == {"a": "010", "b": "1:30", "c": 10, "d": "2001-01-01", "e": "2e-4", "f": -3}


@examples(150)
@given(content=st.sampled_from([b"null", b"[]", b"3", b"[" * 100_000, b"{", b"\xff", b"{}"]) | st.binary(max_size=40))
def test_a_manifest_that_is_none(content, tmp_path_factory, capsys):
    folder = tmp_path_factory.getbasetemp() / "manifest"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "run.json").write_bytes(content)
    status, err = ends(bench.cli.main, "bench", ["run", "--resume", str(folder)], capsys)
    assert status == 2
    assert "run.json" in err
    sentence_or_value(results.load, folder)


@pytest.mark.parametrize("change", [{"suite": None}, {"suite": {}}, {"suite": {"name": 3}}, {"suite": []}])
def test_a_suite_in_a_manifest_that_is_none(change, tmp_path, capsys):
    source = RUNS[-1]
    manifest = json.loads(source.read_text())
    manifest["machine"] |= machine.describe(torch.device("cpu")).model_dump()
    (tmp_path / "run.json").write_text(json.dumps(manifest | change))
    shutil.copy(source.with_name("cases.jsonl"), tmp_path)
    status, err = ends(bench.cli.main, "bench", ["run", "--resume", str(tmp_path), "--device", "cpu"], capsys)
    assert status == 2
    assert "run.json" in err
