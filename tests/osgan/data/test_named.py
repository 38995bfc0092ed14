"""Every data set that has a name, read from a small one in its real on-disk format."""

import io
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from PIL import Image

from osgan.data import Dataset, StreamedDataset, load
from osgan.data.dataset import DecodedImages
from osgan.data.loading import load_in_order
from osgan.data.sources import Root, read
from osgan.errors import InputError, MissingDataError

Noise = Callable[..., Image.Image]


def pixels(dataset: Dataset) -> np.ndarray:
    return ((dataset.images(dataset.num_images) + 1) * 127.5).round().to(torch.uint8).numpy()


def labels_of(name: str, root: Path) -> list[int] | None:
    found = read(name, root=Root(root, is_default=False), resolution=8, seed=0).labels
    return None if found is None else found.tolist()


def cropped(image: Image.Image, size: int) -> np.ndarray:
    """Crop the square in the middle and resize it with Pillow's own antialiased bicubic filter."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(square.convert("RGB")).transpose(2, 0, 1)


def smooth(width: int, height: int, shift: int = 0) -> Image.Image:
    """Return a picture without fine detail, on which two filters and JPEG agree."""
    y, x = np.mgrid[:height, :width]
    channels = [128 + 100 * np.sin((x + 2 * y + shift * (k + 1)) / (20 + 9 * k)) for k in range(3)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def assert_close(mine: np.ndarray, reference: np.ndarray, within: int) -> None:
    assert mine.shape == reference.shape
    assert np.abs(mine.astype(int) - reference.astype(int)).max() <= within


def write_celeba(root: Path) -> list[Image.Image]:
    folder = root / "celeba/img_align_celeba"
    folder.mkdir(parents=True)
    images = [smooth(178, 218, shift) for shift in (0, 30, 60)]
    for number, image in enumerate(images, 1):
        image.save(folder / f"{number:06d}.jpg", quality=98, subsampling=0)
    lines = ["3", "5_o_Clock_Shadow Smiling Young "]
    lines += ["000001.jpg -1  1 -1", "000002.jpg  1 -1 -1", "000003.jpg -1  1  1"]
    (folder.parent / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return images


def test_celeba(tmp_path: Path) -> None:
    images = write_celeba(tmp_path)
    dataset = load("celeba", resolution=64, device="cpu", root=tmp_path)
    assert (dataset.num_images, dataset.image_shape, dataset.num_classes) == (3, (3, 64, 64), None)
    assert_close(pixels(dataset), np.stack([cropped(image, 64) for image in images]), 4)


@pytest.mark.parametrize(("label", "expected"), [("Smiling", [1, 0, 1]), ("Young", [0, 0, 1])])
def test_celeba_with_an_attribute_as_its_class(label: str, expected: list[int], tmp_path: Path) -> None:
    write_celeba(tmp_path)
    assert labels_of(f"celeba+label={label}", tmp_path) == expected
    assert load(f"celeba+label={label}", resolution=8, device="cpu", root=tmp_path).num_classes == 2


def test_celeba_whose_labels_cannot_be_used(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    file = tmp_path / "celeba/list_attr_celeba.txt"
    with pytest.raises(InputError, match=r"unknown attribute of celeba 'Smilling'\. Did you mean 'Smiling'"):
        labels_of("celeba+label=Smilling", tmp_path)
    file.write_text(file.read_text().replace("000002.jpg", "000009.jpg"))
    with pytest.raises(InputError, match=r"list_attr_celeba\.txt: expected the number of images"):
        labels_of("celeba+label=Smiling", tmp_path)
    file.unlink()
    with pytest.raises(MissingDataError, match=r"list_attr_celeba\.txt, which is not there"):
        labels_of("celeba+label=Smiling", tmp_path)


def write_lsun(root: Path, category: str = "church_outdoor") -> list[Image.Image]:
    """Write encoded images of several sizes under hexadecimal keys, as the LSUN downloads have them."""
    images = [smooth(256, 320), smooth(341, 256, 10), smooth(256, 256, 20)]
    environment = lmdb.open(str(root / f"{category}_train_lmdb"), map_size=2**24)
    with environment, environment.begin(write=True) as transaction:
        for number, (image, kind) in enumerate(zip(images, ("WEBP", "JPEG", "WEBP"), strict=True)):
            content = io.BytesIO()
            image.save(content, kind, quality=95)
            transaction.put(f"{number:040x}".encode(), content.getvalue())
    return images


def test_lsun(tmp_path: Path) -> None:
    images = write_lsun(tmp_path)
    dataset = load("lsun:church_outdoor", resolution=64, device="cpu", root=tmp_path)
    assert (dataset.num_images, dataset.image_shape, dataset.num_classes) == (3, (3, 64, 64), None)
    assert_close(pixels(dataset), np.stack([cropped(image, 64) for image in images]), 12)
    (tmp_path / "lsun").mkdir()
    write_lsun(tmp_path / "lsun", "tower")
    assert load("lsun:tower", resolution=8, device="cpu", root=tmp_path).num_images == 3


def test_an_lmdb_can_be_sent_to_another_process(tmp_path: Path) -> None:
    write_lsun(tmp_path)
    source = read("lsun:church_outdoor", root=Root(tmp_path, is_default=False), resolution=8, seed=0)
    images = DecodedImages(source, resolution=8, channels=3)
    assert torch.equal(pickle.loads(pickle.dumps(images))[[2, 0]][0], images[[2, 0]][0])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_lmdb_is_read_in_forked_processes(tmp_path: Path) -> None:
    write_lsun(tmp_path)
    source = read("lsun:church_outdoor", root=Root(tmp_path, is_default=False), resolution=8, seed=0)
    decoded = DecodedImages(source, resolution=8, channels=3)
    (images,) = load_in_order(decoded, [[0, 1, 2]], num_workers=2)
    assert torch.equal(images, decoded[[0, 1, 2]][0])


def test_lsun_without_the_package_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lsun(tmp_path)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingDataError, match=r"pip install 'osgan\[lsun\]'"):
        load("lsun:church_outdoor", resolution=8, device="cpu", root=tmp_path)


def test_a_damaged_image_of_lsun_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "bridge_train_lmdb"
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"abc", b"no image")
    with pytest.raises(InputError, match="image 'abc': cannot be read"):
        load("lsun:bridge", resolution=8, device="cpu", root=tmp_path)
    (tmp_path / "tower_train_lmdb").mkdir()
    (tmp_path / "tower_train_lmdb/data.mdb").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot be read as an LMDB"):
        load("lsun:tower", resolution=8, device="cpu", root=tmp_path)


def test_ffhq_from_a_folder_and_from_a_zip(tmp_path: Path, write_zip: Callable[..., Path], noise: Noise) -> None:
    folder = tmp_path / "thumbnails128x128"
    for number in range(3):  # sub-folders of a thousand, which are no classes
        (folder / f"{number * 1000:05d}").mkdir(parents=True)
        noise(number, 128, 128).save(folder / f"{number * 1000:05d}/{number * 1000:05d}.png")
    dataset = load("ffhq", resolution=128, device="cpu", root=tmp_path)
    assert (dataset.num_images, dataset.num_classes) == (3, None)
    expected = np.stack([np.asarray(noise(number, 128, 128)) for number in range(3)]).transpose(0, 3, 1, 2)
    assert (pixels(dataset) == expected).all()
    write_zip({"00000/img00000000.png": noise(7)}, name="ffhq.zip")
    assert load("ffhq", resolution=8, device="cpu", root=tmp_path).num_images == 1


@pytest.mark.parametrize("place", ["imagenet/train", "ILSVRC/Data/CLS-LOC/train", "train"])
def test_imagenet(place: str, tmp_path: Path) -> None:
    images = []
    for label, synset in enumerate(("n01440764", "n01443537", "n02102040")):
        (tmp_path / place / synset).mkdir(parents=True)
        for number in range(2):
            images.append(smooth(90 + 13 * label, 120 - 17 * number, 9 * label))
            path = tmp_path / place / synset / f"{synset}_{number}.JPEG"
            images[-1].save(path, "JPEG", quality=98, subsampling=0)
    dataset = load("imagenet", resolution=32, device="cpu", root=tmp_path)
    assert (dataset.num_images, dataset.image_shape, dataset.num_classes) == (6, (3, 32, 32), 3)
    assert labels_of("imagenet", tmp_path) == [0, 0, 1, 1, 2, 2]
    assert_close(pixels(dataset), np.stack([cropped(image, 32) for image in images]), 6)


def test_images_of_many_sizes_are_the_same_streamed(tmp_path: Path) -> None:
    write_lsun(tmp_path)
    source = read("lsun:church_outdoor", root=Root(tmp_path, is_default=False), resolution=16, seed=0)
    decoded = DecodedImages(source, resolution=16, channels=3)
    streamed = StreamedDataset("lsun", decoded, device=torch.device("cpu"))
    resident = load("lsun:church_outdoor", resolution=16, device="cpu", root=tmp_path)
    assert torch.equal(streamed.images(3), resident.images(3))


def test_imagenet_without_classes_is_refused(tmp_path: Path, noise: Noise) -> None:
    (tmp_path / "imagenet/train").mkdir(parents=True)
    noise(0).save(tmp_path / "imagenet/train/a.png")
    with pytest.raises(InputError, match="a folder of images for each class"):
        load("imagenet", resolution=8, device="cpu", root=tmp_path)


def test_cifar100_from_its_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    raw = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    entry = {"data": raw.reshape(4, -1), "fine_labels": [3, 99, 0, 7], "coarse_labels": [0, 1, 2, 3]}
    (folder / "train").write_bytes(pickle.dumps(entry))
    (folder / "test").write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    with pytest.raises(MissingDataError, match="corrupted"):  # a pickle that is not the official one is not opened
        load("cifar100", resolution=32, device="cpu", root=tmp_path)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5: Path(path).is_file())
    dataset = load("cifar100", resolution=32, device="cpu", root=tmp_path)
    assert (pixels(dataset) == raw).all()
    assert labels_of("cifar100", tmp_path) == [3, 99, 0, 7]
    assert dataset.num_classes == 100


def test_svhn_from_its_mat_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    for split, marks in (("train", [1, 10, 3, 9]), ("extra", [2, 2, 10, 1])):
        content = {"X": raw, "y": np.array(marks, dtype=np.uint8)[:, None]}
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", content)
    with pytest.raises(MissingDataError, match="corrupted"):
        load("svhn", resolution=32, device="cpu", root=tmp_path)
    monkeypatch.setattr(torchvision.datasets.svhn, "check_integrity", lambda path, md5: Path(path).is_file())
    assert (pixels(load("svhn", resolution=32, device="cpu", root=tmp_path)) == raw.transpose(3, 2, 0, 1)).all()
    assert labels_of("svhn", tmp_path) == [1, 0, 3, 9]  # the digit 0 is written as 10
    assert labels_of("svhn+split=extra", tmp_path) == [2, 2, 0, 1]
    with pytest.raises(InputError, match="unknown split of svhn 'test'"):
        load("svhn+split=test", resolution=32, device="cpu", root=tmp_path)
    with pytest.raises(InputError, match="unknown option 'download'"):
        load("svhn+download=True", resolution=32, device="cpu", root=tmp_path)


def test_stl10_from_its_binary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    raw = np.random.default_rng(0).integers(0, 256, (5, 3, 96, 96), dtype=np.uint8)
    stored = raw.transpose(0, 1, 3, 2)  # column by column
    stored[:3].tofile(folder / "train_X.bin")
    np.array([1, 10, 4], dtype=np.uint8).tofile(folder / "train_y.bin")
    stored[3:].tofile(folder / "unlabeled_X.bin")
    (folder / "fold_indices.txt").write_text("0 1 2\n")
    (folder / "class_names.txt").write_text("airplane\n")
    (folder / "test_X.bin").write_bytes(b"")
    (folder / "test_y.bin").write_bytes(b"")
    with pytest.raises(MissingDataError, match="corrupted"):
        load("stl10", resolution=96, device="cpu", root=tmp_path)
    monkeypatch.setattr(torchvision.datasets.stl10, "check_integrity", lambda path, md5: Path(path).is_file())
    assert (pixels(load("stl10", resolution=96, device="cpu", root=tmp_path)) == raw[3:]).all()
    assert labels_of("stl10", tmp_path) is None
    assert (pixels(load("stl10+split=train", resolution=96, device="cpu", root=tmp_path)) == raw[:3]).all()
    assert labels_of("stl10+split=train", tmp_path) == [0, 9, 3]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("celeba", "celeba/img_align_celeba"),
        ("ffhq", "ffhq.zip"),
        ("imagenet", "imagenet/train"),
        ("lsun:bedroom", "bedroom_train_lmdb"),
        ("cifar100", "cifar-100-python/train"),
        ("svhn", "train_32x32.mat"),
        ("stl10", "stl10_binary/unlabeled_X.bin"),
    ],
)
def test_what_is_not_there_is_named_with_its_place(name: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as error:
        load(name, resolution=32, device="cpu", root=tmp_path)
    assert str(tmp_path / expected) in str(error.value)
    assert "OSGAN_DATA or --data" in str(error.value)


@pytest.mark.parametrize("name", ["celeba+labels=Young", "ffhq+size=64", "imagenet+label=1"])
def test_an_option_that_is_not_known(name: str) -> None:
    with pytest.raises(InputError, match="unknown option"):
        load(name, resolution=8, device="cpu")
