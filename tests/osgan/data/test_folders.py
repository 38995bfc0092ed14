"""Folders and zips as people have them: sizes, orientations, kinds of files, classes, what is hidden or damaged."""

import io
import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from osgan.data import load
from osgan.data.files import ImageFiles
from osgan.data.prepare import prepare
from osgan.errors import InputError, InputWarning


def picture(seed: int = 0, width: int = 8, height: int = 8, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def put(root: Path, *names: str, **options: object) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(root / name, **options)
    return root


def zipped(folder: Path, out: Path, *, below: str = "", separator: str = "/") -> Path:
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = below + file.relative_to(folder).as_posix()
                archive.writestr(name.replace("/", separator), file.read_bytes())
    return out


def loaded(path: Path, **options: object) -> object:
    kind = "folder" if path.is_dir() else "zip"
    return load(f"{kind}:{path}", resolution=8, device="cpu", **options)


def labels_of(path: Path) -> list[int] | None:
    labels = ImageFiles(path).labels
    return None if labels is None else labels.tolist()


CLASSES = ("cat/a.png", "cat/b.png", "dog/c.png")


@pytest.mark.parametrize("below", ["", "photos/"])
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_a_zip_has_the_labels_of_its_folders(tmp_path: Path, below: str, separator: str) -> None:
    folder = put(tmp_path / "set", *CLASSES)
    path = zipped(folder, tmp_path / "set.zip", below=below, separator=separator)
    assert labels_of(path) == labels_of(folder) == [0, 0, 1]
    assert loaded(path).num_classes == 2


def test_the_labels_of_a_zip_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = put(tmp_path / "set", "00000/a.png", "00001/b.png")
    (folder / "dataset.json").write_text(json.dumps({"labels": [["00000/a.png", 3], ["00001/b.png", 5]]}))
    assert labels_of(zipped(folder, tmp_path / "set.zip", below="top/")) == [3, 5]


@pytest.mark.parametrize(
    ("stray", "message"),
    [
        (("cover.png",), r"not used as classes, because 1 of 4 images lie beside them \('cover.png'\)"),
        (("cat/kittens/x.png", "dog/y/z.png"), "because 2 of 5 images lie deeper"),
    ],
)
def test_classes_that_are_not_used_are_said(tmp_path: Path, stray: tuple[str, ...], message: str) -> None:
    folder = put(tmp_path / "set", *CLASSES, *stray)
    for path in (folder, zipped(folder, tmp_path / "set.zip")):
        with pytest.warns(InputWarning, match=message):
            assert loaded(path).num_classes is None


@pytest.mark.parametrize(
    "hidden",
    [".ipynb_checkpoints/a.png", "cat/._a.png", "__MACOSX/cat/a.png", ".thumbs/x/y.png", "__MACOSX/._cat/a.png"],
)
def test_what_is_hidden_is_neither_class_nor_image(tmp_path: Path, hidden: str) -> None:
    folder = put(tmp_path / "set", *CLASSES, hidden)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "empty").mkdir()
    for path in (folder, zipped(folder, tmp_path / "set.zip")):
        assert labels_of(path) == [0, 0, 1]
        assert loaded(path).num_images == 3


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", "a.png", "b.png")
    folder = put(tmp_path / "set", "cat/c.png")
    (folder / "dog").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(folder)
    (folder / "broken.png").symlink_to(tmp_path / "nothing")
    assert labels_of(folder) == [0, 1, 1]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jfif", ".JPEG", ".webp", ".bmp", ".tif", ".TIFF"])
def test_kinds_of_files(tmp_path: Path, suffix: str) -> None:
    picture().save(tmp_path / f"a{suffix}", format="JPEG" if suffix == ".jfif" else None)
    assert loaded(tmp_path).image_shape == (3, 8, 8)


def test_files_of_other_kinds_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.gif", "c.gif")
    for name in ("d.heic", "e", "notes.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(
        InputWarning, match=r"4 files are left out, .*: .gif \(2\), .heic \(1\), without an ending \(1\)"
    ):
        assert loaded(tmp_path).num_images == 1


def test_mixed_sizes_are_cropped_and_resized(tmp_path: Path) -> None:
    sizes = ((8, 8), (20, 8), (8, 31), (100, 64))
    for index, (width, height) in enumerate(sizes):
        picture(index, width, height).save(tmp_path / f"{index}.png")
    images = loaded(tmp_path).images(4)
    assert images.shape == (4, 3, 8, 8)
    middle = torch.from_numpy(np.asarray(picture(1, 20, 8))[:, 6:14].transpose(2, 0, 1).copy())
    assert torch.equal(images[1], middle.float().sub(127.5).div(127.5))
    prepare(f"folder:{tmp_path}", tmp_path / "out.zip", resolution=8)
    assert torch.equal(loaded(tmp_path / "out.zip").images(4), images)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_camera_says(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = picture(0, 12, 8)
    turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = upright if turned is None else upright.transpose(Image.Transpose(turned))
    stored = {6: upright.transpose(Image.Transpose.ROTATE_90), 8: upright.transpose(Image.Transpose.ROTATE_270)}.get(
        orientation, stored
    )
    stored.save(tmp_path / "a.png", exif=exif)
    files = ImageFiles(tmp_path)
    assert next(files.headers())[1] == (12, 8)
    assert torch.equal(files[0], torch.from_numpy(np.asarray(upright).transpose(2, 0, 1).copy()))


@pytest.mark.parametrize(("bits", "largest"), [(10, 1000), (12, 4095), (14, 10_000), (16, 65_535), (10, 3)])
def test_the_bits_that_a_set_of_16_bit_images_needs(tmp_path: Path, bits: int, largest: int) -> None:
    values = np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values // 2).save(tmp_path / "b.png")
    found = loaded(tmp_path).images(2)
    expected = torch.from_numpy((values >> (bits - 8)).astype(np.float32)).sub(127.5).div(127.5)
    assert torch.equal(found[0, 0], expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "PA", "1", "L", "CMYK"])
def test_modes_and_transparency(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    if mode in ("LA", "RGBA", "PA"):
        clear.convert("LA" if mode == "PA" else mode).save(tmp_path / "a.png")
        expected = 1.0
    elif mode == "P":
        Image.new("P", (8, 8), 0).save(tmp_path / "a.png", transparency=0)
        expected = 1.0
    else:
        Image.new(mode, (8, 8), 0).save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
        expected = 1.0 if mode == "CMYK" else -1.0
    assert (loaded(tmp_path).images(1) == expected).all()


@pytest.mark.parametrize("channels", [0, 2, 4, -1, True, 1.0, "3"])
def test_channels_that_are_none(tmp_path: Path, channels: object) -> None:
    put(tmp_path / "set", "a.png")
    with pytest.raises(InputError, match="must be 1"):
        loaded(tmp_path / "set", channels=channels)
    with pytest.raises(InputError, match="must be 1"):
        prepare(f"folder:{tmp_path / 'set'}", tmp_path / "out.zip", resolution=8, channels=channels)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("resolution", [0, -1, 10**9, 2.5, True, "8"])
def test_resolutions_that_are_none(tmp_path: Path, resolution: object) -> None:
    with pytest.raises(InputError, match="whole number of pixels"):
        load("digits", resolution=resolution, device="cpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="whole number of pixels"):
        prepare("digits", tmp_path / "out.zip", resolution=resolution)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["~nobody_here/x", "x" * 300, "nul\0byte"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_paths_that_no_file_can_have(tmp_path: Path, path: str, kind: str) -> None:
    with pytest.raises(InputError):
        load(f"{kind}:{path}", resolution=8, device="cpu")
    with pytest.raises(InputError):
        load("digits", resolution=8, device="cpu", root=path)
    with pytest.raises(InputError):
        prepare("digits", tmp_path / f"{path}.zip" if "~" not in path else tmp_path / "a.txt", resolution=8)


@pytest.mark.parametrize("options", ["images=True", "images=0", "channels=True", "channels=2", "images=1.5"])
def test_random_images_that_are_none(options: str) -> None:
    with pytest.raises(InputError, match="expected 1 or more images"):
        load(f"synthetic+{options}", resolution=8, device="cpu")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null"])
def test_a_plan_that_is_broken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "out.zip.parts").mkdir()
    (tmp_path / "out.zip.parts" / "plan.json").write_bytes(content)
    with pytest.raises(InputError, match=r"out.zip.parts"):
        prepare("synthetic+images=4", tmp_path / "out.zip", resolution=8)


def test_a_part_that_is_broken_is_named_and_can_be_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out.zip"

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("synthetic+images=4", out, resolution=8, progress=stop)
    (part,) = (tmp_path / "out.zip.parts").glob("0*.zip")
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(InputError, match="remove it and run the same again"):
        prepare("synthetic+images=4", out, resolution=8)
    part.unlink()
    prepare("synthetic+images=4", out, resolution=8)
    assert loaded(out).num_images == 4


def test_the_fingerprint_tells_sets_apart(tmp_path: Path) -> None:
    folder = put(tmp_path / "set", *CLASSES)
    first = loaded(folder).fingerprint
    assert loaded(folder).fingerprint == first
    put(folder, "dog/d.png")
    more = loaded(folder).fingerprint
    picture(9, 9, 9).save(folder / "dog/d.png")
    assert len({json.dumps(f) for f in (first, more, loaded(folder).fingerprint)}) == 3
    assert more["images"] == 4


class Broken(list):  # type: ignore[type-arg]
    def __getitem__(self, index: object) -> object:
        raise RuntimeError("torn")


def test_an_item_that_raises_is_named() -> None:
    from osgan.data.user import read_user

    with pytest.raises(InputError, match=r"dataset 'mine', image 0: RuntimeError: torn"):
        read_user("mine", Broken([1, 2]))


def encrypted_json(archive: zipfile.ZipFile) -> None:
    archive.writestr("dataset.json", b"x" * 20)
    archive.getinfo("dataset.json").flag_bits |= 1


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"labels": [["a.png", 99999999999999999999999]]}',
        b'{"labels": [["a.png", 1000001]]}',
        b'{"labels": 3}',
        b"\xff",
        b'{"labels": {"a.png": 1}}',
        b'{"labels": [["a.png"]]}',
        b'{"labels": [[1, 2]]}',
        b"3",
    ],
)
def test_a_dataset_json_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(InputError, match=r"dataset.json"):
        loaded(tmp_path)


@pytest.mark.parametrize("damage", ["encrypted", "method", "deflate"])
def test_a_dataset_json_that_cannot_be_unpacked(tmp_path: Path, damage: str) -> None:
    content = io.BytesIO()
    picture().save(content, "PNG")
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", content.getvalue())
        archive.writestr("dataset.json", b'{"labels": [["a.png", 0]]}' * 20)
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\x01\x02")  # of dataset.json, in the central directory
    local = raw.rindex(b"PK\x03\x04")
    if damage == "encrypted":
        raw[entry + 8] |= 1
        raw[local + 6] |= 1
    elif damage == "method":
        raw[entry + 10] = raw[local + 8] = 99
    else:
        raw[local + 45 : local + 60] = bytes(15)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"dataset.json"):
        loaded(path)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_damaged_zip_ends_in_anything_but_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(
        content, "w", data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    ) as archive:
        for index, name in enumerate(
            data.draw(st.lists(st.sampled_from([*CLASSES, "x.jpg", "a\\b.png"]), unique=True))
        ):
            file = io.BytesIO()
            picture(index, 5 + index).save(file, "JPEG" if name.endswith("jpg") else "PNG")
            archive.writestr(name, file.getvalue())
        archive.writestr(
            "dataset.json", data.draw(st.sampled_from(['{"labels": null}', "{}", '{"labels": [["x", 1]]}']))
        )
    raw = bytearray(content.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    out = path.with_name("out.zip")
    for attempt in (lambda: loaded(path), lambda: prepare(f"zip:{path}", out, resolution=4)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                attempt()
            except InputError as error:
                assert "damaged.zip" in str(error)  # noqa: PT017
    out.unlink(missing_ok=True)
