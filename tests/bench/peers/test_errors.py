import sys

import pytest

from bench import cli
from bench.peers.imports import load_script
from bench.peers.peer import Changes
from osgan.errors import InputError

ASYMMETRIC = "train_dcgan_asymmetric_one_stage.py"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def train_epoch_adv", "def renamed", "'train_epoch_adv', which the adapter looks for"),
        ("def train(", "def training(", "'train', which the adapter looks for"),
        ("    train_epoch_adv(g, d", "    print(g, d", "`train` ended without calling `train_epoch_adv`"),
        ('cfg["zdim"]', 'cfg["z"]', "`train` failed before its loop: KeyError: 'z'"),
        ("import os\n", "import os, nowhere_to_be_found\n", "pip install nowhere_to_be_found"),
        ("get_model, never_used", "get_model, used as never_used\nused = never_used", "cannot be imported.*'used'"),
        ("import os\n", "import os(\n", "is not a Python file"),
    ],
)
def test_a_script_that_changed_is_named_with_what_was_looked_for(
    checkout, open_checkout, asymmetric, old, new, message
):
    assert old in asymmetric
    root = checkout("osgan", **{ASYMMETRIC: asymmetric.replace(old, new)})
    with pytest.raises(InputError, match=message) as error:
        open_checkout("osgan", root)
    assert str(root / ASYMMETRIC) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "No such file"), ("method: dcgan", "lacks zdim, num_channel, optimizer_g"), ("a: [", "not YAML")],
)
def test_a_settings_file_that_is_no_use_is_named(checkout, open_checkout, text, message):
    name = "cfgs/dcgan/dcgan_asymmetric_one_stage_celeba.yml"
    with pytest.raises(InputError, match=f"{name}.*{message}"):
        open_checkout("osgan", checkout("osgan", **{name: text}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("in enumerate(dataloader, 0)", "in enumerate(loader, 0)", "no loop over `dataloader`"),
        ("optimizerD = ", "other = ", "defines no optimizerD"),
        ("nn.Sigmoid(),", "", "does not end in a Sigmoid"),
        ('"ngf", ', "", "does not take the options"),
        ("import torch\n", "import torch, nowhere_to_be_found\n", "pip install nowhere_to_be_found"),
    ],
)
def test_an_example_that_changed_is_named(checkout, open_checkout, example, old, new, message):
    assert old in example
    root = checkout("pytorch-dcgan", **{"dcgan/main.py": example.replace(old, new)})
    with pytest.raises(InputError, match=message) as error:
        open_checkout("pytorch-dcgan", root)
    assert str(root / "dcgan" / "main.py") in str(error.value)


def test_a_mimicry_without_its_networks_is_named(checkout, open_checkout):
    root = checkout("mimicry", **{"torch_mimicry/nets/sngan/sngan_32.py": "x = 1\n"})
    with pytest.raises(InputError, match=r"sngan_32\.py has no 'SNGANGenerator32'"):
        open_checkout("mimicry", root)
    with pytest.raises(InputError, match=r"sngan_64\.py cannot be imported: No module named"):
        open_checkout("mimicry", root, resolution=64)


def test_a_name_imported_in_vain_is_supplied_only_if_it_is_never_used(open_checkout, tmp_path):
    (tmp_path / "helper_of_test.py").write_text("kept = 1\n")
    script = tmp_path / "script_of_test.py"
    script.write_text("from helper_of_test import kept, gone as never\n")
    changes = Changes()
    assert load_script(script, tmp_path, changes).kept == 1
    assert len(changes.patched) == 1
    script.write_text("from helper_of_test import lost\nprint(lost)\n")
    with pytest.raises(InputError, match="cannot import name 'lost'"):
        load_script(script, tmp_path, changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--repo"),
        (["--repo", "/nowhere"], "no such folder"),
        (["--repo", "{osgan}", "--resolution", "32"], "has networks for 64"),
        (["--repo", "{osgan}", "--precision", "fp16"], "unknown precision 'fp16'"),
        (["--repo", "{osgan}", "--device", "tpu"], "unknown device"),
        (["--again", "{osgan}"], "not a run of peers"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(checkout, monkeypatch, capsys, tmp_path, words, message):
    root = checkout("osgan")
    given = [word.format(osgan=root) for word in words]
    places = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    monkeypatch.setattr(sys, "argv", ["bench", "peers", *given, *places])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
