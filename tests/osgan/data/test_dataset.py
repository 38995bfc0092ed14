import itertools
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor
from waiting import waits_for_nothing

from osgan.data import Dataset, ResidentDataset, StreamedDataset, StreamingWarning, load, loading
from osgan.data import dataset as dataset_module
from osgan.data.dataset import DecodedImages
from osgan.data.files import ImageFiles
from osgan.data.loading import available_workers
from osgan.data.sources import Root, read
from osgan.errors import InputError

DATA_OF_THIS_MACHINE = os.environ.get("OSGAN_DATA")
# Python 3.12 and newer warn of every fork in a process with threads, and torch has threads.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
CPU = torch.device("cpu")


def decoded(path: Path, resolution: int = 8) -> DecodedImages:
    source = read(f"zip:{path}", root=Root(path.parent, is_default=False), resolution=resolution, seed=0)
    return DecodedImages(source, resolution=resolution, channels=3)


@pytest.fixture(params=["resident", "streamed"])
def numbered(request: pytest.FixtureRequest, numbered_zip: Path) -> Dataset:
    kind = ResidentDataset if request.param == "resident" else StreamedDataset
    return kind("numbered", decoded(numbered_zip), device=CPU)


def numbers(images: Tensor) -> list[int]:
    return ((images[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()


def drawn(dataset: Dataset, batch_size: int, seed: int, num_batches: int) -> list[int]:
    batches = itertools.islice(dataset.batches(batch_size, seed), num_batches)
    return [number for images, _ in batches for number in numbers(images)]


def test_an_epoch_has_every_image_once(numbered: Dataset) -> None:
    first, second = (lambda order: (order[:30], order[30:]))(drawn(numbered, 5, seed=0, num_batches=12))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    assert first != list(range(30))


def test_an_incomplete_batch_is_dropped(numbered: Dataset) -> None:
    order = drawn(numbered, 7, seed=0, num_batches=8)  # 4 batches of 7 are an epoch, 2 of 30 images are left out
    for epoch in (order[:28], order[28:]):
        assert len(set(epoch)) == 28


def test_the_order_comes_from_the_seed(numbered: Dataset) -> None:
    assert drawn(numbered, 5, seed=3, num_batches=9) == drawn(numbered, 5, seed=3, num_batches=9)
    assert drawn(numbered, 5, seed=3, num_batches=9) != drawn(numbered, 5, seed=4, num_batches=9)


def test_two_iterators_do_not_disturb_each_other(numbered: Dataset) -> None:
    alone = drawn(numbered, 5, seed=0, num_batches=6)
    one, other = numbered.batches(5, seed=0), numbered.batches(5, seed=1)
    mixed = [(numbers(next(one)[0]), numbers(next(other)[0]))[0] for _ in range(6)]
    assert list(itertools.chain(*mixed)) == alone


def test_labels_belong_to_their_images(numbered: Dataset) -> None:
    images, labels = next(numbered.batches(30, seed=0))
    assert labels is not None
    assert (images.dtype, images.shape) == (torch.float32, (30, 3, 8, 8))
    assert (labels.dtype, labels.shape) == (torch.int64, (30,))
    assert labels.tolist() == numbers(images)
    assert numbered.num_classes == 30


def test_images_by_number_and_by_index(numbered: Dataset) -> None:
    assert numbers(numbered.images(4)) == [0, 1, 2, 3]
    assert numbers(numbered.images([29, 0])) == [29, 0]
    assert len(numbered.images(99)) == 30
    assert numbered.images(0).shape == (0, 3, 8, 8)


def test_a_batch_larger_than_the_set_fails_at_the_call(numbered: Dataset) -> None:
    with pytest.raises(InputError, match="batch size 31: numbered has 30 images"):
        numbered.batches(31, seed=0)
    with pytest.raises(InputError, match="batch size 0"):
        numbered.batches(0, seed=0)


def test_normalisation_is_exact() -> None:
    images = load("synthetic+images=64", resolution=16, device="cpu").images(64)
    assert images.unique().tolist() == [(torch.tensor(v - 127.5) / 127.5).item() for v in range(256)]
    assert (images.min().item(), images.max().item()) == (-1.0, 1.0)


@pytest.mark.parametrize("resolution", [8, 5, 13])
@FORKS
def test_streamed_equals_resident(resolution: int, numbered_zip: Path) -> None:
    resident = ResidentDataset("set", decoded(numbered_zip, resolution), device=CPU)
    in_process = StreamedDataset("set", decoded(numbered_zip, resolution), device=CPU)
    two_workers = StreamedDataset("set", decoded(numbered_zip, resolution), device=CPU, num_workers=2)
    draws = [dataset.batches(7, seed=5) for dataset in (resident, in_process, two_workers)]
    for (images, labels), *others in itertools.islice(zip(*draws, strict=True), 9):
        for other_images, other_labels in others:
            assert torch.equal(images, other_images)
            assert torch.equal(labels, other_labels)


@FORKS
def test_streamed_equals_resident_on_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Images of one colour would hide a difference between resizing one, a chunk and a batch.
    source = read("synthetic+images=40", root=Root(tmp_path, is_default=False), resolution=16, seed=0)
    whole = ResidentDataset("noise", DecodedImages(source, resolution=7, channels=3), device=CPU, num_workers=2)
    monkeypatch.setattr(dataset_module, "CHUNK_BYTES", 3 * 3 * 16 * 16)
    chunked = DecodedImages(source, resolution=7, channels=3)
    assert chunked.chunk_size == 3
    assert DecodedImages(source, resolution=28, channels=3).chunk_size == 1  # larger than raw
    assert torch.equal(ResidentDataset("noise", chunked, device=CPU).images(40), whole.images(40))
    assert torch.equal(StreamedDataset("noise", chunked, device=CPU).images(40), whole.images(40))


@FORKS
def test_the_global_random_state_is_left_alone(numbered_zip: Path) -> None:
    before = torch.get_rng_state()
    for num_workers in (0, 1):
        streamed = StreamedDataset("set", decoded(numbered_zip), device=CPU, num_workers=num_workers)
        next(streamed.batches(5, seed=0))
    next(ResidentDataset("set", decoded(numbered_zip), device=CPU).batches(5, seed=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_open_zip_can_be_sent_to_another_process(numbered_zip: Path) -> None:
    images = decoded(numbered_zip)
    assert torch.equal(pickle.loads(pickle.dumps(images))[[3, 1]][0], images[[3, 1]][0])


def test_a_forked_process_opens_the_zip_itself(numbered_zip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ImageFiles(numbered_zip)
    parent, parents_archive = os.getpid(), files._archive()
    assert files._archive() is parents_archive
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    assert files._archive() is not parents_archive


def test_a_set_that_does_not_fit_is_streamed(numbered_zip: Path) -> None:
    needed = 30 * 3 * 512 * 512  # bytes, 22.5 MiB
    fits = load(f"zip:{numbered_zip}", resolution=512, device="cpu", memory_limit_bytes=2 * needed)
    assert isinstance(fits, ResidentDataset)
    assert fits.resident
    with pytest.warns(StreamingWarning, match=r"needs 22\.5 MiB on cpu, where 45\.0 MiB are free and at most 50%"):
        streamed = load(f"zip:{numbered_zip}", resolution=512, device="cpu", memory_limit_bytes=2 * needed - 1)
    assert isinstance(streamed, StreamedDataset)
    assert not streamed.resident
    attributes = ("name", "num_images", "image_shape", "num_classes", "device")
    assert [getattr(streamed, name) for name in attributes] == [getattr(fits, name) for name in attributes]
    assert torch.equal(streamed.images(3), fits.images(3))


def test_a_set_in_host_memory_is_streamed_too() -> None:
    with pytest.warns(StreamingWarning):
        streamed = load("digits", resolution=8, device="cpu", memory_limit_bytes=0)
    resident = load("digits", resolution=8, device="cpu")
    assert torch.equal(next(streamed.batches(64, seed=0))[0], next(resident.batches(64, seed=0))[0])


def test_processes_are_started_for_many_files_only(numbered_zip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = read(f"zip:{numbered_zip}", root=Root(numbered_zip.parent, is_default=False), resolution=8, seed=0)
    in_memory = read("digits", root=Root(numbered_zip.parent, is_default=False), resolution=8, seed=0)
    assert available_workers(few) == 0
    monkeypatch.setattr(loading, "MIN_IMAGES_PER_WORKER", 30)
    assert available_workers(few) == 1
    assert available_workers(in_memory) == 0


def test_resolution_must_be_positive() -> None:
    with pytest.raises(InputError, match="resolution 0"):
        load("digits", resolution=0, device="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_drawing_on_a_gpu_waits_for_nothing() -> None:
    dataset = load("digits", resolution=16, device="cuda")
    assert dataset.resident
    batches = dataset.batches(600, seed=0)
    next(batches)
    with waits_for_nothing():
        images = [next(batches)[0] for _ in range(6)]  # more than an epoch
    assert all(image.is_cuda and image.min() == -1 and image.max() == 1 for image in images)


@pytest.mark.slow
@pytest.mark.skipif(not DATA_OF_THIS_MACHINE, reason="needs OSGAN_DATA")
@pytest.mark.parametrize(
    ("name", "path", "num_images", "image_shape", "num_classes"),
    [
        ("mnist", "MNIST", 60000, (1, 32, 32), 10),
        ("zip:cifar10-32x32.zip", "cifar10-32x32.zip", 50000, (3, 32, 32), 10),
        ("zip:tiny-imagenet-64x64.zip", "tiny-imagenet-64x64.zip", 25000, (3, 64, 64), 200),
    ],
)
@FORKS
def test_real_data(name: str, path: str, num_images: int, image_shape: tuple[int, int, int], num_classes: int) -> None:
    root = Path(DATA_OF_THIS_MACHINE or "")
    if not (root / path).exists():
        pytest.skip(f"{root} has no {path}")
    dataset = load(name, resolution=image_shape[-1], device="cpu", root=root)
    assert (dataset.num_images, dataset.image_shape, dataset.num_classes) == (
        num_images,
        image_shape,
        num_classes,
    )
    images, labels = next(dataset.batches(256, seed=0))
    assert labels is not None
    assert (images.min().item(), images.max().item()) == (-1.0, 1.0)
    assert -0.8 < images.mean().item() < 0.3
