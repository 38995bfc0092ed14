"""Augmentation in front of D: what DiffAugment's parts do, and what every augmentation must hold to."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

import osgan
from osgan import DiffAugment
from osgan.augmentation import Drawn, parse_augmentation

EVERYTHING = "color,translation,cutout,flip"
AUGMENTATIONS = {
    "diffaugment": lambda: DiffAugment(EVERYTHING),
    "ada": lambda: osgan.ADA(p=0.8),
}
MANY = 4000


@pytest.fixture(params=AUGMENTATIONS)
def augmentation(request):
    return AUGMENTATIONS[request.param]()


def images_of(*shape, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype) * 2 - 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_same_draw_is_the_same_function(augmentation, channels):
    images = images_of(5, channels, 8, 6)
    drawn = augmentation.draw(images)
    assert torch.equal(drawn(images), drawn(images))
    assert drawn(images).shape == images.shape
    assert drawn(images).dtype == torch.float64
    assert not torch.equal(augmentation.draw(images)(images), drawn(images))


def test_a_seed_gives_the_draw_again(augmentation):
    images = images_of(5, 3, 8, 8)
    torch.manual_seed(3)
    first = augmentation.draw(images)(images)
    torch.manual_seed(3)
    assert torch.equal(augmentation.draw(images)(images), first)


def test_the_first_of_a_draw(augmentation):
    images = images_of(6, 3, 8, 8)
    drawn = augmentation.draw(images)
    torch.testing.assert_close(drawn.first(4)(images[:4]), drawn(images)[:4], rtol=0, atol=1e-14)
    with pytest.raises(osgan.InputError, match=r"drawn for 4 images, but got \(6, 3, 8, 8\): draw again"):
        drawn.first(4)(images)
    with pytest.raises(osgan.InputError, match=r"is of images .* but got \(6, 8, 8\): leave it out"):
        drawn(images[:, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_slices_of_a_sample_have_one_draw(augmentation, channels):
    images = images_of(4, 3, channels, 8, 10)
    drawn = augmentation.draw(images)
    whole = drawn(images)
    for s in range(3):
        torch.testing.assert_close(whole[:, s], drawn(images[:, s]), rtol=0, atol=1e-14)


def test_an_image_depends_on_itself_alone(augmentation):
    images = images_of(4, 3, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(augmentation.draw(images)(images)[2].square().sum(), images)
    others = [0, 1, 3]
    assert not gradient[others].any()
    assert gradient[2].any()


def test_dependence_on_the_batch_is_seen():
    images = images_of(4, 3, 8, 8).requires_grad_()
    centred = Drawn(lambda x, u: x - x.mean(0), torch.zeros(4, 1))
    (gradient,) = torch.autograd.grad(centred(images)[2].square().sum(), images)
    assert gradient[[0, 1, 3]].any()


@pytest.mark.parametrize("shape", [(2, 1, 5, 6), (2, 3, 6, 5), (2, 4, 4, 4), (2, 2, 3, 4, 4)])
def test_both_derivatives(augmentation, shape):
    images = images_of(*shape).requires_grad_()
    drawn = augmentation.draw(images)
    assert gradcheck(drawn, (images,))
    assert gradgradcheck(drawn, (images,))


def test_a_penalty_is_differentiated_through_it(augmentation):
    """R1 at the images before they are augmented: the derivative of its gradient with respect to D's weights."""
    images, weights = images_of(2, 3, 5, 5).requires_grad_(), images_of(3, 5, 5).requires_grad_()
    drawn = augmentation.draw(images)

    def penalty(weights):
        logits = (drawn(images) * weights).flatten(1).sum(1).tanh()
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradient.square().flatten(1).sum(1)

    assert gradcheck(penalty, (weights,))


def test_other_types_and_memory_formats(augmentation):
    images = images_of(4, 3, 8, 8, dtype=torch.float32)
    drawn = augmentation.draw(images)
    half = images.bfloat16()
    assert drawn(half).dtype == torch.bfloat16
    torch.testing.assert_close(drawn(half), drawn(half.float()).bfloat16(), rtol=0, atol=0)
    last = images.to(memory_format=torch.channels_last)
    assert drawn(last).is_contiguous(memory_format=torch.channels_last)
    assert drawn(images).is_contiguous()
    torch.testing.assert_close(drawn(last), drawn(images), rtol=0, atol=1e-6)


def test_autocast_rounds_nothing(augmentation):
    images = images_of(4, 3, 32, 32, dtype=torch.float32)
    torch.manual_seed(3)
    expected = augmentation.draw(images)(images)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augmentation.draw(images)(images), expected)


@pytest.mark.parametrize("backend", ["aot_eager"])
def test_it_compiles_as_one_graph(augmentation, backend):
    images = images_of(4, 3, 8, 8).requires_grad_()
    drawn = augmentation.draw(images)
    compiled = torch.compile(lambda x: drawn(x), fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(images), drawn(images), rtol=0, atol=1e-14)
    gradients = [torch.autograd.grad(f(images).square().sum(), images)[0] for f in (compiled, drawn)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)


class Hostless(TorchDispatchMode):
    """Refuses what would wait for a GPU: values or shapes that the host must know."""

    READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).split(".")[1]
        assert name not in self.READS, name
        return function(*args, **(kwargs or {}))


def test_nothing_is_read_on_the_host(augmentation):
    images = images_of(4, 3, 8, 8, dtype=torch.float32).requires_grad_()
    with Hostless():
        drawn = augmentation.draw(images)
        drawn(images).sum().backward()
        drawn.first(2)(images[:2])
        augmentation.observe(images.mean((1, 2, 3)))


def test_a_read_is_seen():
    with Hostless(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        torch.rand(1).item()


@pytest.mark.parametrize(
    ("word", "low", "high"), [("brightness", -0.5, 0.5), ("contrast", 0.5, 1.5), ("saturation", 0, 2)]
)
def test_the_range_of_a_colour(word, low, high):
    images = images_of(1, 3, 4, 4).expand(MANY, -1, -1, -1)
    out = DiffAugment(word).draw(images)(images)
    if word == "brightness":
        found = (out - images).flatten(1)
    else:
        dims = (1, 2, 3) if word == "contrast" else 1
        mean = images.mean(dims, keepdim=True)
        found = ((out - mean) / (images - mean)).flatten(1)
        torch.testing.assert_close(out.mean(dims, keepdim=True), mean, rtol=0, atol=1e-10)
    strength = found[:, 0]
    torch.testing.assert_close(found, strength[:, None].expand_as(found), rtol=1e-8, atol=1e-8)
    assert low <= strength.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < strength.max() <= high
    torch.testing.assert_close(strength.mean().item(), (low + high) / 2, rtol=0, atol=0.03 * (high - low))


def test_one_channel_has_no_saturation():
    images = images_of(4, 1, 4, 4)
    assert torch.equal(DiffAugment("saturation").draw(images)(images), images)


def shifts_of(out, images):
    """Return by how many rows and columns each image was moved; asserts that one shift explains each."""
    _, _, height, width = images.shape
    found = []
    for moved, image in zip(out, images, strict=True):
        fits = []
        for down in range(-height, height + 1):
            for right in range(-width, width + 1):
                expected = torch.zeros_like(image)
                rows, columns = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
                source = image[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
                expected[:, rows, columns] = source
                if torch.equal(expected, moved):
                    fits.append((down, right))
        assert len(fits) == 1
        found += fits
    return found


def test_translation_is_by_whole_pixels_with_zeros():
    images = images_of(1, 2, 8, 12).expand(300, -1, -1, -1)
    out = DiffAugment("translation", translation_ratio=0.25).draw(images)(images)
    down, right = zip(*shifts_of(out, images), strict=True)
    assert set(down) == set(range(-2, 3))
    assert set(right) == set(range(-3, 4))
    assert abs(sum(down)) < 300 * 0.4
    assert abs(sum(right)) < 300 * 0.5


@pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 9)])
def test_cutout_is_a_rectangle_of_half_the_height_and_width(height, width):
    images = torch.ones(MANY, 3, height, width)
    out = DiffAugment("cutout").draw(images)(images)
    assert ((out == 0) | (out == 1)).all()
    assert torch.equal(out[:, 0], out[:, 2])
    gone = out[:, 0] == 0
    rows, columns = gone.any(2), gone.any(1)
    assert torch.equal(gone, rows[:, :, None] & columns[:, None, :])
    for hit, size in ((rows, height), (columns, width)):
        full = int(size * 0.5 + 0.5)
        lengths = hit.sum(1)
        assert lengths.max() == full
        assert lengths.min() == (full + 1) // 2  # its centre is in the image
        assert (hit.int().diff(dim=1) == 1).sum(1).max() <= 1  # in one piece
        assert hit.any(0).all()


@pytest.mark.parametrize(
    ("policy", "off"), [("translation", {"translation_ratio": 0}), ("cutout", {"cutout_ratio": 0})]
)
def test_a_ratio_of_0_changes_nothing(policy, off):
    images = images_of(5, 3, 8, 8)
    assert torch.equal(DiffAugment(policy, **off).draw(images)(images), images)


def test_flip_changes_every_other_image():
    images = images_of(400, 1, 2, 3)
    out = DiffAugment("flip").draw(images)(images)
    flipped = (out == images.flip(-1)).flatten(1).all(1)
    kept = (out == images).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert 150 < flipped.sum() < 250


def test_parts_come_in_the_policys_order():
    images = images_of(MANY, 1, 4, 4).abs() + 1
    last = DiffAugment("brightness,cutout").draw(images)(images)
    first = DiffAugment(["cutout", "brightness"]).draw(images)(images)
    assert (last == 0).flatten(1).any(1).all()
    assert not (first == 0).any()


def test_specs():
    assert parse_augmentation("none") is None
    assert parse_augmentation("diffaugment").policy == DiffAugment("color,translation,cutout").policy
    built = parse_augmentation("diffaugment+policy='translation, flip'+translation_ratio=0.25")
    assert built.policy == ("translation", "flip")
    assert built.translation_ratio == 0.25
    assert isinstance(parse_augmentation("osgan.augmentation:DiffAugment+policy=cutout"), DiffAugment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("difaugment", "unknown augmentation 'difaugment'. Did you mean 'diffaugment'"),
        ("none+p=1", "unknown option 'p'"),
        ("diffaugment+ratio=1", "unknown option 'ratio'"),
        ("diffaugment+policy=colour", "unknown part of DiffAugment's policy 'colour'. Did you mean 'color'"),
        ("diffaugment+policy=", "cannot read"),
        ("diffaugment+policy=3", "takes a policy such as 'color,translation,cutout', got 3"),
        ("diffaugment+policy='color,contrast'", "has 'contrast' twice"),
        ("diffaugment+cutout_ratio=2", "DiffAugment needs cutout_ratio from 0 to 1, got 2"),
        ("diffaugment+translation_ratio=True", "needs translation_ratio from 0 to 1, got True"),
        ("osgan:Gaussian+dim=3", "must be an osgan.Augmentation, but is Gaussian"),
    ],
)
def test_what_cannot_be_built(text, message):
    with pytest.raises(osgan.InputError, match=message):
        parse_augmentation(text)
