import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from osgan.metrics import FeatureCacheWarning, Judge
from osgan.metrics.judge import NUM_PROBED

STUB = "stub_extractors:pixels"
REAL = torch.linspace(-1, 1, 20 * 16).view(20, 1, 4, 4)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "not" / "yet"


@pytest.fixture
def judged(stub, folder):
    """Return a function that judges the same fakes and gives the quality and how many real images were looked at."""

    def judge(real=REAL, extractor=STUB, **kwargs):
        judge = Judge(real, extractor=extractor, num_images=8, cache=folder, **kwargs)
        num_seen = stub.built[-1].num_seen
        return judge(lambda n: torch.rand(n, 1, 4, 4)), num_seen

    return judge


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_features_of_real_images_are_computed_once_and_the_same_bit_by_bit(judged, folder):
    first, num_seen = judged()
    assert num_seen == 20
    second, num_seen = judged(batch_size=7)
    assert num_seen == NUM_PROBED
    assert second == first
    assert len(files(folder)) == 1
    assert re.fullmatch(r"[0-9a-f]{64}\.safetensors", files(folder)[0])


def test_what_is_in_the_file_is_what_is_used(judged, folder):
    first, _ = judged()
    (path,) = folder.iterdir()
    features = load_file(path)["features"]
    features[NUM_PROBED:] += 1
    rewrite(path, features)
    second, _ = judged()
    assert second != first


@pytest.mark.parametrize("changed", ["pixel", "count", "shape", "weights", "options"])
def test_what_features_depend_on_is_in_their_name(judged, folder, stub, changed):
    judged()
    real, extractor = REAL.clone(), STUB
    if changed == "pixel":
        real[7, 0, 2, 1] += 1 / 127.5
    elif changed == "count":
        real = real[:-1]
    elif changed == "shape":
        real = real.view(20, 1, 2, 8)
    elif changed == "weights":
        pixels = stub.Extractor
        stub.Extractor = lambda scale: pixels(2 * scale)
    elif changed == "options":
        extractor = f"{STUB}+scale=1.0"
    if changed == "shape":
        Judge(real, extractor=extractor, num_images=8, cache=folder)
    else:
        judged(real, extractor)
    assert stub.built[-1].num_seen >= len(real)
    assert len(files(folder)) == 2


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip_a_bit(path):
    written = bytearray(path.read_bytes())
    written[-3] ^= 1
    path.write_bytes(written)


def empty(path):
    path.write_bytes(b"")


def rewrite(path, features):
    """Store other features as a sound file."""
    from osgan.metrics import cache

    path.unlink()
    cache._write(path, features)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "."),
        (empty, "."),
        (flip_a_bit, "its SHA-256 is not the one it was written with"),
        (lambda path: save_file({"features": torch.zeros(20, 16)}, path), "its SHA-256"),
        (lambda path: save_file({"other": torch.zeros(20, 16)}, path), "it holds no features"),
        (lambda path: rewrite(path, torch.zeros(19, 16)), "not 20 rows of 16"),
    ],
)
def test_a_damaged_file_is_replaced_with_a_warning(judged, folder, damage, reason):
    first, _ = judged()
    (path,) = folder.iterdir()
    damage(path)
    with pytest.warns(FeatureCacheWarning, match=f"{path.name} cannot be used .*{reason}.* computed again"):
        second, num_seen = judged()
    assert num_seen >= 20
    assert second == first
    assert judged() == (first, NUM_PROBED)


def test_features_of_an_extractor_whose_code_has_changed_are_replaced(judged, stub):
    judged()

    class Inverted(stub.Extractor):  # the same name, the same weights
        def forward(self, images):
            return 255 - super().forward(images)

    stub.Extractor = Inverted
    with pytest.warns(FeatureCacheWarning, match="the extractor gives other features today"):
        changed, _ = judged()
    assert judged() == (changed, NUM_PROBED)


def test_a_folder_that_cannot_be_written_to_costs_time_only(judged, folder):
    folder.parent.write_text("in the way")
    with pytest.warns(FeatureCacheWarning, match="cannot be cached"):
        first, num_seen = judged()
    assert num_seen >= 20
    assert first.num_real == 20


def test_nothing_unfinished_is_left_behind(judged, folder, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("osgan.metrics.cache.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        judged()
    assert files(folder) == []
