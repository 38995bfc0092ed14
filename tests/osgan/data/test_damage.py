"""What a user's own data set, a worker process and a long name can do wrong: each is one sentence, before the work."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from osgan.data import StreamedDataset
from osgan.data.dataset import DecodedImages
from osgan.data.files import ImageFiles
from osgan.data.prepare import prepare
from osgan.data.raw import in_memory, scanned
from osgan.data.user import read_user
from osgan.errors import InputError


def picture(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def torn_picture(tmp_path: Path) -> Image.Image:
    file = tmp_path / "torn.jpg"
    picture(64).save(file)
    file.write_bytes(file.read_bytes()[:-40])
    return Image.open(file)


class NoNumber:
    def __index__(self) -> int:
        raise RuntimeError("torn")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((torch.zeros(3, 4, 4, dtype=torch.uint8), 2**70), f"label {2**70} is not in 0 to 1,000,000"),
        ((torch.zeros(3, 4, 4, dtype=torch.uint8), 2**40), f"label {2**40} is not in 0 to 1,000,000"),
        ((torch.zeros(3, 4, 4, dtype=torch.uint8), -1), "label -1 is not in 0 to 1,000,000"),
        ((torch.zeros(3, 4, 4, dtype=torch.uint8), NoNumber()), "is not an integer"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), r"\(3, 0, 4\)"),
    ],
)
def test_an_item_that_cannot_be_used_is_named(item: object, message: str) -> None:
    with pytest.raises(InputError, match=f"dataset 'mine', image 1: .*{message}"):
        read_user("mine", [(torch.zeros(3, 4, 4, dtype=torch.uint8), 0), item])


def test_a_users_picture_that_is_read_late_is_named(tmp_path: Path) -> None:
    with torn_picture(tmp_path) as torn, pytest.raises(InputError, match=r"dataset 'mine', image 0: .*truncated"):
        read_user("mine", [torn])


class Leaving(list):  # type: ignore[type-arg]
    def __getitem__(self, index: object) -> object:
        raise SystemExit(3)


def test_an_item_that_leaves_is_named() -> None:
    with pytest.raises(InputError, match=r"dataset 'mine', image 0: SystemExit: 3"):
        read_user("mine", Leaving([1]))


def test_a_damaged_file_that_another_process_reads_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    picture(8).save(tmp_path / "set" / "a.png")
    torn_picture(tmp_path / "set").close()
    files = ImageFiles(tmp_path / "set")
    source = scanned("set", files, None, files.headers())
    decoded = DecodedImages(source, resolution=8, channels=3)
    streamed = StreamedDataset("set", decoded, device=torch.device("cpu"), num_workers=1)
    with pytest.raises(InputError, match=r"cannot read the image 'torn.jpg'") as error:
        next(streamed.batches(2, seed=0))
    assert "Traceback" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [240, 245, 249, 251, 300])
def test_a_name_with_no_room_beside_it_is_refused_before_the_work(tmp_path: Path, length: int) -> None:
    out = tmp_path / ("a" * length + ".zip")
    if length == 240:
        prepare("synthetic+images=2", out, resolution=4)
        return
    with pytest.raises(InputError, match="cannot write"):
        prepare("synthetic+images=2", out, resolution=4)
    assert not list(tmp_path.glob("aaa*"))


@pytest.mark.parametrize("field", [{"flag_bits": 1}, {"compress_type": 99}])
def test_a_part_of_which_zipfile_raises_another_kind(tmp_path: Path, field: dict[str, int]) -> None:
    out = tmp_path / "out.zip"

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("synthetic+images=2", out, resolution=4, progress=stop)
    (part,) = (tmp_path / "out.zip.parts").glob("0*.zip")
    with ZipFile(part, "a") as archive:
        archive.writestr("more.png", b"x")
        for name, value in field.items():
            setattr(archive.getinfo("more.png"), name, value)
    with pytest.raises(InputError, match="remove it and run the same again"):
        prepare("synthetic+images=2", out, resolution=4)


def test_fewer_labels_than_images_are_said() -> None:
    with pytest.raises(InputError, match="3 images have 2 labels"):
        in_memory(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.long))
