import sys

import pytest

import osgan
from osgan import spec


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("hinge", "hinge", {}),
        ("dcgan64+width=128+norm=group", "dcgan64", {"width": 128, "norm": "group"}),
        ("rpgan+r1=0.05+r2=5e-2", "rpgan", {"r1": 0.05, "r2": 0.05}),
        (
            "pack.mod:build+deep=True+sizes=[1, 2]+none=None",
            "pack.mod:build",
            {"deep": True, "sizes": [1, 2], "none": None},
        ),
        (" spaced + a = 1 ", "spaced", {"a": 1}),
        ("f+path=a=b", "f", {"path": "a=b"}),
        ("f+x='1'", "f", {"x": "1"}),
    ],
)
def test_parse(text, name, options):
    parsed = spec.parse(text)
    assert parsed.name == name
    assert dict(parsed.options) == options
    assert [type(value) for _, value in parsed.options] == [type(value) for value in options.values()]
    assert spec.parse(str(parsed)) == parsed


def test_the_order_of_options_is_kept():
    assert str(spec.parse("f+b=1+a=2")) == "f+b=1+a=2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hinge+r1", "cannot read 'hinge[+]r1' at 'r1'"),
        ("hinge+=1", "at '=1'"),
        ("hinge+r1=", "at 'r1='"),
        ("hinge+", "at ''"),
        ("", "the name is empty"),
        ("+r1=1", "at 'r1=1'"),
        ("hinge+r1=1+r1=2", "option 'r1' stands twice"),
    ],
)
def test_what_cannot_be_read(text, message):
    with pytest.raises(osgan.InputError, match=message):
        spec.parse(text)


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "a_users_module.py").write_text("def build(depth=1):\n    return depth\nNUMBER = 3\n")
    (tmp_path / "a_broken_module.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "a_users_module"
    for name in ("a_users_module", "a_broken_module"):
        sys.modules.pop(name, None)


def test_resolve(module):
    assert spec.resolve("thing", "known", {"known": 1}) == 1
    build = spec.resolve("thing", f"{module}:build", {"known": 1})
    assert spec.call("thing", spec.parse(f"{module}:build+depth=4"), build, channels=3) == 4
    assert spec.call("thing", spec.parse(f"{module}:build"), build, depth=2, channels=3) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("knwon", r"unknown thing 'knwon'\. Did you mean 'known'\?.*package\.module:object"),
        ("a_users_module:biuld", "'a_users_module' has no 'biuld'"),
        ("a_users_module:", "has no ''"),
        ("a_users_modul:build", "cannot import 'a_users_modul'.*PYTHONPATH"),
        ("a_broken_module:build", "cannot import 'a_broken_module'.*a_module_that_is_not_there"),
        (":build", "cannot import ''"),
        (".relative:build", "cannot import '.relative'"),
    ],
)
def test_what_cannot_be_resolved(module, name, message):
    with pytest.raises(osgan.InputError, match=message):
        spec.resolve("thing", name, {"known": 1})


def test_an_option_that_the_builder_does_not_take_is_refused(module):
    build = spec.resolve("thing", f"{module}:build", {})
    with pytest.raises(osgan.InputError, match=r"unknown option 'dept'\. Did you mean 'depth'\?"):
        spec.call("thing", spec.parse(f"{module}:build+dept=4"), build)


def test_what_cannot_be_called_is_refused(module):
    number = spec.resolve("thing", f"{module}:NUMBER", {})
    with pytest.raises(osgan.InputError, match="NUMBER"):
        spec.call("thing", spec.parse(f"{module}:NUMBER"), number)


def test_a_required_option_that_is_missing_is_named():
    def build(depth, width=1):
        return depth, width

    assert spec.call("thing", spec.parse("m:build+depth=4"), build) == (4, 1)
    with pytest.raises(osgan.InputError, match="depth"):
        spec.call("thing", spec.parse("m:build"), build)


def test_a_builder_that_takes_anything_gets_everything():
    taken = spec.call("thing", spec.parse("f+a=1+b=2"), lambda **options: options, b=7, c=3)
    assert taken == {"a": 1, "b": 2, "c": 3}
