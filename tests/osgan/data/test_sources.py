import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from osgan.data import load
from osgan.errors import InputError

USER_MODULE = """
import torch
from PIL import Image

class Colours:
    def __init__(self, root, num=4):
        self.root, self.num = root, num
    def __len__(self):
        return self.num
    def __getitem__(self, i):
        return Image.new("RGB", (6, 4), (i, i, i)), i % 2

ITEMS = {
    "tensors": [torch.full((1, 4, 4), i, dtype=torch.uint8) for i in range(3)],
    "grey_first": [(Image.new("L", (4, 4), 9), 0), (Image.new("RGB", (4, 4)), 1)],
    "empty": [],
    "floats": [torch.zeros(3, 4, 4)],
    "planes": [torch.zeros(4, 4, dtype=torch.uint8)],
    "arrays": [b"x"],
    "float_labels": [(Image.new("L", (4, 4)), 0.5)],
    "some_labels": [(Image.new("L", (4, 4)), 0), Image.new("L", (4, 4))],
    "sizes": [Image.new("L", (4, 4)), Image.new("L", (5, 4))],
    "deep": [Image.new("F", (4, 4))],
    "iterable": iter([1]),
}

def build(which):
    return ITEMS[which]

NUMBER = 3
"""


def write_mnist(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = struct.pack(">IIII", 2051, *images.shape)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(labels)) + labels.tobytes())


@pytest.fixture
def user_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "user_pictures.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_digits_are_scikit_learns() -> None:
    dataset = load("digits", resolution=8, device="cpu")
    assert (dataset.num_images, dataset.image_shape, dataset.num_classes) == (1797, (1, 8, 8), 10)
    expected = np.round(load_digits().images * 255 / 16) / 127.5 - 1
    assert torch.allclose(dataset.images(1797)[:, 0].double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
@pytest.mark.parametrize("given_by", ["argument", "OSGAN_DATA"])
def test_mnist_from_idx_files(
    name: str, folder: str, given_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    write_mnist(tmp_path / "data" / folder / "raw", images, np.arange(12, dtype=np.uint8) % 3)
    monkeypatch.setenv("OSGAN_DATA", str(tmp_path / "data" if given_by == "OSGAN_DATA" else "/nowhere"))
    root = tmp_path / "data" if given_by == "argument" else None
    dataset = load(name, resolution=28, device="cpu", root=root)
    assert (dataset.image_shape, dataset.num_classes) == ((1, 28, 28), 3)
    pixels = ((dataset.images(12)[:, 0] + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(pixels, torch.from_numpy(images))


def test_cifar10_from_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
    for i in range(5):
        entry = {"data": pixels[2 * i : 2 * i + 2].reshape(2, -1), "labels": [i, 9 - i]}
        (folder / f"data_batch_{i + 1}").write_bytes(pickle.dumps(entry))
    (folder / "test_batch").write_bytes(b"")
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with pytest.raises(InputError, match="corrupted"):
        load("cifar10", resolution=32, device="cpu", root=tmp_path)

    # Only the checksums of the real files are set aside; torchvision's own reader reads these.
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5: Path(path).is_file())
    dataset = load("cifar10", resolution=32, device="cpu", root=tmp_path)
    assert (dataset.image_shape, dataset.num_images, dataset.num_classes) == ((3, 32, 32), 10, 10)
    loaded = ((dataset.images(10) + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(loaded, torch.from_numpy(pixels))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
    ],
)
def test_a_set_that_is_not_there(name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def offline(url: str, *args: object, **kwargs: object) -> None:
        attempts.append(url)
        raise URLError("no network")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", offline)
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", offline)
    with pytest.raises(InputError) as given:
        load(name, resolution=32, device="cpu", root=tmp_path)
    assert not attempts
    assert str(tmp_path / expected) in str(given.value)
    assert "OSGAN_DATA or --data" in str(given.value)

    with pytest.raises(InputError) as default:
        load(name, resolution=32, device="cpu")
    assert attempts
    assert str(tmp_path / "home/.cache/osgan" / expected) in str(default.value)


def test_synthetic_is_drawn_from_the_seed() -> None:
    dataset = load("synthetic", resolution=5, device="cpu")
    assert (dataset.num_images, dataset.image_shape, dataset.num_classes) == (1024, (3, 5, 5), None)
    small = "synthetic+images=7+channels=1"
    one, same, other = (load(small, resolution=5, device="cpu", seed=seed).images(7) for seed in (1, 1, 2))
    assert one.shape == (7, 1, 5, 5)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minst", "Did you mean 'mnist'"),
        ("zip", "zip:PATH"),
        ("zip:", "empty path"),
        ("synthetic+image=3", "Did you mean 'images'"),
        ("synthetic+images=0", "1 or more images"),
        ("synthetic+channels=2", "1 or 3 channels"),
        ("digits+images=3", "takes no options"),
        ("no_such_module:thing", "PYTHONPATH"),
    ],
)
def test_names_that_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load(name, resolution=8, device="cpu")
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["digits", "synthetic", "mnist"])
@pytest.mark.parametrize("origin", ["--data", "OSGAN_DATA"])
def test_a_bad_root_is_an_error_for_every_name(
    name: str, origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")

    def message(root: Path) -> str:
        monkeypatch.setenv("OSGAN_DATA", str(root))
        with pytest.raises(InputError) as error:
            load(name, resolution=8, device="cpu", root=root if origin == "--data" else None)
        assert str(root) in str(error.value)
        assert f"from {origin}" in str(error.value)
        return str(error.value)

    assert "No such file" in message(tmp_path / "missing")
    assert "Not a directory" in message(tmp_path / "file")

    def forbidden(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", forbidden)
    assert "Permission denied" in message(tmp_path)


@pytest.mark.usefixtures("user_module")
def test_a_users_own_data_set(tmp_path: Path) -> None:
    dataset = load("user_pictures:Colours+num=6", resolution=4, device="cpu", root=tmp_path)
    assert (dataset.num_images, dataset.image_shape, dataset.num_classes) == (6, (3, 4, 4), 2)
    levels = ((dataset.images(6).mean(dim=(1, 2, 3)) + 1) * 127.5).round()
    assert levels.tolist() == [0, 1, 2, 3, 4, 5]
    images, labels = next(dataset.batches(6, seed=0))
    assert labels is not None
    assert torch.equal(((images[:, 0, 0, 0] + 1) * 127.5).round().long() % 2, labels)

    tensors = load("user_pictures:build+which=tensors", resolution=4, device="cpu")
    assert (tensors.image_shape, tensors.num_classes) == ((1, 4, 4), None)
    assert load("user_pictures:build+which=grey_first", resolution=4, device="cpu").image_shape == (3, 4, 4)


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("empty", "is empty"),
        ("floats", "torch.float32"),
        ("planes", "(4, 4)"),
        ("arrays", "is bytes"),
        ("float_labels", "label 0.5"),
        ("some_labels", "for every image, or for none"),
        ("deep", "mode 'F'"),
        ("iterable", "map-style"),
    ],
)
def test_a_users_data_set_that_cannot_be_used(which: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load(f"user_pictures:build+which={which}", resolution=4, device="cpu")
    assert message in str(error.value)


@pytest.mark.usefixtures("user_module")
def test_a_users_object_that_is_not_callable() -> None:
    with pytest.raises(InputError, match="not callable"):
        load("user_pictures:NUMBER", resolution=4, device="cpu")


def test_paths_are_looked_up_here_and_then_in_the_root(
    write_zip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip({"a.png": Image.new("L", (2, 2), 10)})
    with pytest.raises(InputError) as error:
        load("zip:set.zip", resolution=2, device="cpu")
    assert f"{tmp_path}/home/set.zip nor {tmp_path}/home/.cache/osgan/set.zip" in str(error.value)
    assert load("zip:set.zip", resolution=2, device="cpu", root=tmp_path).num_images == 1

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write_zip({"a.png": Image.new("L", (2, 2)), "b.png": Image.new("L", (2, 2))}, name="here/set.zip")
    assert load("zip:set.zip", resolution=2, device="cpu", root=tmp_path).num_images == 2


@pytest.mark.parametrize("name", ["zip:here", "folder:set.zip"])
def test_zip_and_folder_are_not_confused(name: str, write_zip: Callable[..., Path], tmp_path: Path) -> None:
    write_zip({"a.png": Image.new("L", (2, 2))})
    (tmp_path / "here").mkdir()
    with pytest.raises(InputError, match="did you mean"):
        load(name, resolution=2, device="cpu", root=tmp_path)
