"""`osgan data prepare`: the pixels that training would have seen, in a zip that StyleGAN's tools read too."""

import hashlib
import json
import sys
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest
import torch
from PIL import Image

from osgan.commands import cli
from osgan.data import load
from osgan.data import prepare as preparation
from osgan.data.prepare import prepare
from osgan.errors import InputError


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "PART_IMAGES", 7)


@pytest.mark.parametrize(
    ("source", "resolution", "channels"),
    [("digits", 12, None), ("digits", 8, 3), ("synthetic+images=9", 5, None)],
)
def test_it_holds_the_pixels_and_labels_of_the_source(
    source: str, resolution: int, channels: int | None, tmp_path: Path
) -> None:
    out = tmp_path / "deep/set.zip"
    checksum = prepare(source, out, resolution=resolution, channels=channels)
    before, after = (
        load(name, resolution=resolution, device="cpu", channels=channels) for name in (source, f"zip:{out}")
    )
    assert (after.image_shape, after.num_classes) == (before.image_shape, before.num_classes)
    assert torch.equal(after.images(after.num_images), before.images(before.num_images))
    labels = [next(each.batches(each.num_images, seed=0))[1] for each in (before, after)]
    assert (labels[0] is None) == (labels[1] is None)
    assert labels[0] is None or torch.equal(*labels)
    assert hashlib.sha256(out.read_bytes()).hexdigest() == checksum
    assert out.with_name("set.zip.sha256").read_text() == f"{checksum}  set.zip\n"
    assert sorted(path.name for path in out.parent.iterdir()) == ["set.zip", "set.zip.sha256"]


def test_it_is_stored_as_stylegan_stores_it(tmp_path: Path) -> None:
    prepare("digits", tmp_path / "set.zip", resolution=8)
    with ZipFile(tmp_path / "set.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names[0] == "00000/img00000000.png"
        assert names[1796] == "00001/img00001796.png"
        assert {entry.compress_type for entry in archive.infolist()} == {ZIP_STORED}
        labels = json.loads(archive.read("dataset.json"))["labels"]
    assert labels[:3] == [[names[0], 0], [names[1], 1], [names[2], 2]]


class StopError(Exception):
    pass


@pytest.mark.usefixtures("small_parts")
def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare("synthetic+images=40", tmp_path / "whole.zip", resolution=6)
    out = tmp_path / "set.zip"
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        assert total == 40
        if done >= 21:
            raise StopError

    with pytest.raises(StopError):
        prepare("synthetic+images=40", out, resolution=6, progress=stop)
    assert not out.exists()
    written = []
    write = preparation._write_part
    monkeypatch.setattr(
        preparation, "_write_part", lambda path, *given: written.append(path.name) or write(path, *given)
    )
    (tmp_path / "set.zip.parts/00000021.zip.tmp").write_bytes(b"cut sho")  # what a kill in the middle leaves
    again = prepare("synthetic+images=40", out, resolution=6, progress=lambda done, total: seen.append(done))
    assert written == ["00000021.zip", "00000028.zip", "00000035.zip"]
    assert seen == [21, 28, 35, 40]
    assert again == whole
    assert out.read_bytes() == (tmp_path / "whole.zip").read_bytes()


@pytest.mark.usefixtures("small_parts")
def test_a_kill_while_the_parts_are_joined_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*given: object) -> None:
        raise StopError

    join = preparation._join
    monkeypatch.setattr(preparation, "_join", die)
    with pytest.raises(StopError):
        prepare("synthetic+images=20", tmp_path / "set.zip", resolution=6)
    (tmp_path / "set.zip.parts/whole.zip").write_bytes(b"half")
    monkeypatch.setattr(preparation, "_join", join)
    seen: list[int] = []
    prepare("synthetic+images=20", tmp_path / "set.zip", resolution=6, progress=lambda done, total: seen.append(done))
    assert seen == [20]
    assert load(f"zip:{tmp_path / 'set.zip'}", resolution=6, device="cpu").num_images == 20


@pytest.mark.usefixtures("small_parts")
def test_parts_of_another_source_are_not_mixed_in(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        prepare("synthetic+images=20", tmp_path / "set.zip", resolution=6, progress=stop)
    with pytest.raises(InputError, match=r"set\.zip\.parts holds parts of .*remove it"):
        prepare("synthetic+images=20", tmp_path / "set.zip", resolution=7)


def test_a_zip_that_is_there_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "set.zip"
    out.write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already"):
        prepare("digits", out, resolution=8)
    assert out.read_bytes() == b"mine"
    with pytest.raises(InputError, match=r"must end in \.zip"):
        prepare("digits", tmp_path / "set", resolution=8)


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparation, "_write_part", full)
    with pytest.raises(InputError, match=r"No space left on device; what is done lies in .*set\.zip\.parts"):
        prepare("digits", tmp_path / "set.zip", resolution=8)


def test_images_of_many_sizes_become_one_size(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "imagenet/train" / label).mkdir(parents=True)
        Image.new("RGB", (9 + ord(label), 50), "red").save(tmp_path / "imagenet/train" / label / "x.JPEG")
    prepare("imagenet", tmp_path / "set.zip", resolution=16, root=tmp_path)
    assert load(f"zip:{tmp_path / 'set.zip'}", resolution=16, device="cpu").num_classes == 2


def command(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["osgan", "data", "prepare", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "set.zip")
    assert command(["synthetic+images=5", out, "--resolution", "4"], monkeypatch) == 0
    checksum, name = capsys.readouterr().out.split()
    assert (len(checksum), name) == (64, out)
    assert command(["celeba", str(tmp_path / "faces.zip")], monkeypatch) == 2
    assert "celeba/img_align_celeba" in capsys.readouterr().err
