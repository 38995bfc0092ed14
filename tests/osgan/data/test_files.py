import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from osgan.data import Dataset, ResidentDataset, StreamedDataset, load
from osgan.data.dataset import DecodedImages
from osgan.data.raw import Source
from osgan.data.sources import Root, read
from osgan.errors import InputError

Zip = Callable[..., Path]
Noise = Callable[..., Image.Image]


def pixels(dataset: Dataset) -> torch.Tensor:
    return ((dataset.images(dataset.num_images) + 1) * 127.5).round().to(torch.uint8)


def raw(path: Path) -> Source:
    return read(f"zip:{path}", root=Root(path.parent, is_default=False), resolution=8, seed=0)


def test_zip_with_labels(write_zip: Zip, noise: Noise) -> None:
    images = {"00000/b.png": noise(1), "00000/a.PNG": noise(0), "c.png": noise(2), "readme.txt": b"no image"}
    path = write_zip(images | {"__MACOSX/._c.png": b"junk"}, [["c.png", 2], ["00000\\a.PNG", 6], ["00000/b.png", 0]])
    dataset = load(f"zip:{path}", resolution=8, device="cpu")
    assert (dataset.num_images, dataset.image_shape, dataset.num_classes) == (3, (3, 8, 8), 7)
    expected = np.stack([np.asarray(noise(seed)) for seed in range(3)]).transpose(0, 3, 1, 2)
    assert torch.equal(pixels(dataset), torch.from_numpy(expected))
    assert raw(path).labels.tolist() == [6, 0, 2]


@pytest.mark.parametrize("labels", [None, ...])
def test_zip_without_labels(labels: object, write_zip: Zip, noise: Noise) -> None:
    dataset = load(f"zip:{write_zip({'x/a.png': noise(0), 'x/b.png': noise(1)}, labels)}", resolution=8, device="cpu")
    assert dataset.num_classes is None
    assert next(dataset.batches(2, seed=0))[1] is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["a.png", 0]], "has labels for 1 images, but there are 2; the first image without one is 'b.png'"),
        ([["a.png", 0], ["b.png", 1], ["c.png", 1]], "has labels for 3 images, but there are 2"),
        ([["a.png", 0], ["b.png", 0.5]], "TypeError"),
        ([["a.png", 0], ["b.png", -1]], "label -1 is not in 0 to"),
        ([0, 1], "expected {"),
        (7, "expected {"),
    ],
)
def test_dataset_json_that_cannot_be_used(labels: object, message: str, write_zip: Zip, noise: Noise) -> None:
    path = write_zip({"a.png": noise(0), "b.png": noise(1)}, labels)
    with pytest.raises(InputError) as error:
        load(f"zip:{path}", resolution=8, device="cpu")
    assert f"dataset.json in {path}" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b"\xff"])
def test_dataset_json_that_is_malformed(text: bytes, write_zip: Zip, noise: Noise) -> None:
    path = write_zip({"a.png": noise(0), "dataset.json": text})
    with pytest.raises(InputError, match=r"dataset\.json in .*set\.zip: expected"):
        load(f"zip:{path}", resolution=8, device="cpu")


def test_folder_with_classes(tmp_path: Path, noise: Noise) -> None:
    for name, seed in (("dog/1.png", 1), ("cat/2.png", 2), ("cat/1.jpg", 3)):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        noise(seed).save(tmp_path / "set" / name)
    dataset = load("folder:set", resolution=8, device="cpu", root=tmp_path)
    assert (dataset.num_images, dataset.num_classes) == (3, 2)
    source = read("folder:set", root=Root(tmp_path, is_default=False), resolution=8, seed=0)
    assert source.labels.tolist() == [0, 0, 1]
    assert torch.equal(pixels(dataset)[2], torch.from_numpy(np.asarray(noise(1)).transpose(2, 0, 1).copy()))


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["cat/a.png", "cat/b.png"], ["x/y/a.png", "x/y/b.png"]])
def test_folder_without_classes(names: list[str], tmp_path: Path, noise: Noise) -> None:
    for seed, name in enumerate(names):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        noise(seed).save(tmp_path / "set" / name)
    assert load(f"folder:{tmp_path / 'set'}", resolution=8, device="cpu").num_classes is None


def test_an_unpacked_zip_keeps_its_labels(tmp_path: Path, noise: Noise) -> None:
    for seed, name in enumerate(["00000/a.png", "00001/b.png"]):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        noise(seed).save(tmp_path / "set" / name)
    (tmp_path / "set/dataset.json").write_text('{"labels": null}')
    assert load(f"folder:{tmp_path / 'set'}", resolution=8, device="cpu").num_classes is None


def test_empty_sources(write_zip: Zip, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "no.zip").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="set holds no images"):
        load(f"folder:{tmp_path / 'set'}", resolution=8, device="cpu")
    with pytest.raises(InputError, match=r"set\.zip holds no images"):
        load(f"zip:{write_zip({'readme.txt': b''})}", resolution=8, device="cpu")
    with pytest.raises(InputError, match="cannot be read as a zip"):
        load(f"zip:{tmp_path / 'no.zip'}", resolution=8, device="cpu")


def test_mixed_sizes(write_zip: Zip, noise: Noise) -> None:
    path = write_zip({"a.png": noise(0), "b.png": noise(1), "c.png": noise(2, width=12), "d.png": noise(3, width=10)})
    found = pixels(load(f"zip:{path}", resolution=8, device="cpu"))
    assert torch.equal(found[2], torch.from_numpy(np.asarray(noise(2, width=12))[:, 2:10].transpose(2, 0, 1).copy()))


@pytest.mark.parametrize("kept", [10, 100])  # torn within the header, within the pixels
@pytest.mark.parametrize("kind", [ResidentDataset, StreamedDataset])
def test_corrupt_image(
    kept: int, kind: type[Dataset], write_zip: Zip, noise: Noise, png: Callable[[Image.Image], bytes]
) -> None:
    path = write_zip({"whole/good.png": noise(0), "torn/bad.png": png(noise(1))[:kept]})

    def draw() -> None:
        decoded = DecodedImages(raw(path), resolution=8, channels=3)
        next(kind("torn", decoded, device=torch.device("cpu")).batches(2, seed=0))

    with pytest.raises(InputError) as error:
        draw()
    assert f"{path}: cannot read the image 'torn/bad.png'" in str(error.value)


def test_one_rgb_image_makes_the_set_rgb(write_zip: Zip, noise: Noise) -> None:
    grey = noise(0, mode="L")
    path = write_zip({"a.png": grey, "b.png": noise(1)})
    dataset = load(f"zip:{path}", resolution=8, device="cpu")
    assert dataset.image_shape == (3, 8, 8)
    assert torch.equal(pixels(dataset)[0], torch.from_numpy(np.asarray(grey).copy()).expand(3, 8, 8))
    assert load(f"zip:{write_zip({'a.png': grey})}", resolution=8, device="cpu").image_shape == (1, 8, 8)


def test_channels_can_be_forced(write_zip: Zip, noise: Noise) -> None:
    path = write_zip({"a.png": noise(0, mode="L"), "b.png": Image.new("RGB", (8, 8), (255, 0, 0))})
    grey = pixels(load(f"zip:{path}", resolution=8, device="cpu", channels=1))
    assert grey.shape == (2, 1, 8, 8)
    assert grey[1].unique().item() == 76  # ITU-R 601 luma: 0.299 * 255
    rgb = load(f"zip:{write_zip({'a.png': noise(0, mode='L')})}", resolution=8, device="cpu", channels=3)
    assert rgb.image_shape == (3, 8, 8)
    with pytest.raises(InputError, match="channels 4"):
        load("digits", resolution=8, device="cpu", channels=4)


def test_alpha_palette_and_deep_images(write_zip: Zip) -> None:
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    clear_palette = io.BytesIO()
    palette.save(clear_palette, "PNG", transparency=1)
    deep = Image.fromarray(np.full((2, 2), 0x80FF, dtype=np.uint16))
    files = {
        "a.png": Image.new("RGBA", (2, 2), (10, 20, 30, 255)),
        "b.png": Image.new("RGBA", (2, 2), (10, 20, 30, 0)),
        "c.png": palette,
        "d.png": clear_palette.getvalue(),
        "e.png": Image.new("LA", (2, 2), (0, 0)),
        "f.png": deep,
    }
    loaded = pixels(load(f"zip:{write_zip(files)}", resolution=2, device="cpu"))[:, :, 0, 0].tolist()
    white, colour = [255] * 3, [10, 20, 30]
    assert loaded == [colour, white, colour, white, white, [0x80] * 3]


def test_centre_crop_then_resize(write_zip: Zip, noise: Noise) -> None:
    wide = noise(0, width=12, height=8)
    path = write_zip({"a.png": wide})
    middle = torch.from_numpy(np.asarray(wide)[:, 2:10].transpose(2, 0, 1).copy())
    assert torch.equal(pixels(load(f"zip:{path}", resolution=8, device="cpu"))[0], middle)

    smaller = pixels(load(f"zip:{path}", resolution=4, device="cpu"))[0]
    reference = wide.crop((2, 0, 10, 8)).resize((4, 4), Image.Resampling.BICUBIC)
    difference = smaller.int() - torch.from_numpy(np.asarray(reference).transpose(2, 0, 1).copy()).int()
    assert difference.abs().max() <= 1  # Pillow's antialiased bicubic rounds between its two passes
