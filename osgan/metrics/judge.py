"""The judge: real images once, then any number of generators, each measured with the same latents.

Deliberately not here: formulas. The Frechet distance, KID, precision, recall and the Inception score are
torch-fidelity's.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from osgan.data import Dataset
from osgan.errors import InputError, unknown
from osgan.metrics import cache as feature_cache
from osgan.metrics import efficientnet, extractors, inception
from osgan.parallel import processes

Generate = Callable[[int], Tensor]
"""n -> n images (n, C, H, W) in [-1, 1]."""

# Images needed: a variance takes 2, an unbiased MMD 2 a subset of one half, a third neighbour 4, ten splits 10.
METRICS = {"fd": 2, "kd": 4, "precision_recall": 4, "isc": 10}
"""Metrics by name, and how many images each needs at least."""

KID_SUBSET_SIZE = 1000  # torch-fidelity's default, as in the paper's code

# So many cached rows are computed anew to see that they are what this extractor, today, makes of these images.
NUM_PROBED = 4
PROBE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Quality:
    """What a judge found: `values` by name, NaN where there is none and `notes` say why."""

    values: dict[str, float]
    extractor: str
    weights_sha256: str
    num_real: int
    num_fake: int
    notes: tuple[str, ...]


class Judge:
    """Measure how far generated images are from `real` ones: `Judge(dataset)(generate)` gives a Quality.

    `real` is a Dataset, a tensor (N, C, H, W) in [-1, 1] or an iterable of such batches; of more than `num_real` images
    a fixed random choice is used, without `num_real` all. `metrics`: see `osgan.metrics`. `extractor` is
    `efficientnet-lite0[+size=PIXELS]` (offline), `inception-v3-compat` (weights: `inception_weights`, else torch.hub's
    cache, else downloaded) or package.module:object+option=value, a callable that returns an nn.Module, uint8 images
    (N, 3, H, W) -> features (N, F). Images are rounded to 8 bits as if they were saved; grey ones are repeated to RGB.

    Features of the real images are computed here, once, and kept under `cache` (default ~/.cache/osgan/features), to be
    found again by the SHA-256 of pixels, extractor and weights. All randomness comes from `seed`, the same at every
    call, and the global random state stays as it was. Raises InputError for what cannot be used, such as fewer images
    than a metric needs; smaller KID subsets than 1000 and a singular covariance are stated in the notes.

    `over_processes`: where torch.distributed has several processes, each has a judge and all call it at once. Each
    makes and extracts its share of the images, from a random stream of its own; process 0 alone keeps the real features
    and measures, and all are given what it found.
    """

    def __init__(
        self,
        real: Dataset | Tensor | Iterable[Tensor],
        *,
        metrics: Sequence[str] = ("fd",),
        extractor: str = efficientnet.NAME,
        device: torch.device | str = "cpu",
        num_images: int = 10_000,
        num_real: int | None = None,
        batch_size: int = 64,
        inception_weights: str | Path | None = None,
        cache: str | Path | None = None,
        seed: int = 0,
        over_processes: bool = False,
    ) -> None:
        self.metrics = tuple(metrics)
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown("metric", metric, METRICS)
        if not self.metrics:
            raise InputError(f"metrics: none given; there is: {', '.join(METRICS)}")
        if batch_size < 1:
            raise InputError(f"batch size {batch_size} of the judge: must be at least 1")
        self.device = torch.device(device)
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.num_processes = (processes.rank(), processes.size()) if over_processes else (0, 1)

        self._real, total = _indexable(real)
        self._real_indices: Sequence[int] = range(total)
        if num_real is not None and num_real < total:
            # Spread over the set: in the order of the source, images are often sorted by class.
            order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
            self._real_indices = sorted(order[: max(num_real, 0)].tolist())
        self.num_real = len(self._real_indices)
        for metric in self.metrics:
            for number, kind, argument in (
                (self.num_real, "real", "num_real"),
                (num_images, "generated", "num_images"),
            ):
                if number < METRICS[metric]:
                    raise InputError(
                        f"{number} {kind} images are too few for the metric {metric!r}, which needs {METRICS[metric]}: "
                        f"raise {argument}{' or use a larger set' if kind == 'real' else ''}"
                    )
        self.image_shape = self._real(self._real_indices[:1]).shape[1:]

        with _own_randomness(self.device, seed):  # networks draw their first weights from the global generator
            self.extractor = extractors.load(
                extractor, device=self.device, logits="isc" in self.metrics, inception_weights=inception_weights
            )
            if self.rank == 0:
                folder = Path(cache or feature_cache.DEFAULT_FOLDER).expanduser()
                self._real_features = feature_cache.load_or_compute(
                    folder, self._key(), self._compute, self._reason_to_refuse
                )
        self.names = tuple(name for metric in self.metrics for name in _names(metric, self.extractor.label))
        self.notes = self.extractor.notes
        if self.rank == 0:
            self._real_statistics = (
                fid_features_to_statistics(self._real_features.double()) if "fd" in self.metrics else None
            )
            self.notes = (*self.notes, *self._caveats())

    def __call__(self, generate: Generate) -> Quality:
        """Measure `num_images` images of `generate`, called as often as needed with at most `batch_size`.

        Values outside [-1, 1] are clipped. Images that are not finite give NaN for every value, and a note.
        Raises InputError for images of another number or shape than asked for.
        """
        if self.num_processes == 1:
            return self._judged([self._extract(generate)])
        shares = processes.gather_to_first(self._extract(generate))
        quality: Quality = processes.gather_to_all(self._judged(shares) if self.rank == 0 else None)[0]
        return quality

    def _extract(self, generate: Generate) -> dict[str, Tensor] | str:
        """Return this process's share of the features by layer, or why there are none."""
        parts: list[dict[str, Tensor]] = []
        batches = list(_batched(range(self.num_images), self.batch_size))[self.rank :: self.num_processes]
        with _own_randomness(self.device, processes.derived_seed(self.seed, self.rank)), torch.no_grad():
            for indices in batches:
                images = self._checked(generate(len(indices)), len(indices))
                if not images.isfinite().all():
                    return f"generated images {indices[0]} to {indices[-1]} are not all finite: there are no values"
                parts.append(self.extractor.extract(_to_uint8(images.to(self.device))))
        return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]} if parts else {}

    def _judged(self, shares: Sequence[dict[str, Tensor] | str]) -> Quality:
        for lost in shares:
            if isinstance(lost, str):
                return self._quality(dict.fromkeys(self.names, float("nan")), lost)
        parts = [share for share in shares if isinstance(share, dict) and share]
        fakes = {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}
        measured = [value for metric in self.metrics for value in self._measure(metric, fakes)]
        return self._quality(dict(zip(self.names, measured, strict=True)))

    def _measure(self, metric: str, fakes: dict[str, Tensor]) -> tuple[float, ...]:
        fake, real = fakes[self.extractor.layer], self._real_features
        if metric == "fd":
            statistics = fid_features_to_statistics(fake.double())
            return (fid_statistics_to_metric(statistics, self._real_statistics, verbose=False)[KEY_METRIC_FID],)
        if metric == "kd":
            result = kid_features_to_metric(fake, real, kid_subset_size=self._kid_subset_size(), verbose=False)
            return (result[KEY_METRIC_KID_MEAN],)
        if metric == "precision_recall":
            result = prc_features_to_metric(fake, real, save_cpu_ram=True, verbose=False)
            return result[KEY_METRIC_PRECISION], result[KEY_METRIC_RECALL]
        return (isc_features_to_metric(fakes[inception.LOGITS])[KEY_METRIC_ISC_MEAN],)

    def _kid_subset_size(self) -> int:
        # Half of the smaller set at most: subsets that are the whole set would all be the same one.
        return min(KID_SUBSET_SIZE, min(self.num_real, self.num_images) // 2)

    def _caveats(self) -> Iterator[str]:
        if self.image_shape[0] == 1:
            yield "grey images are repeated to RGB"
        fewest, num_features = min(self.num_real, self.num_images), self._real_features.shape[1]
        if "fd" in self.metrics and fewest <= num_features:
            yield f"{fewest} images for {num_features} features: singular covariance, compare only at as many images"
        if "kd" in self.metrics and self._kid_subset_size() < KID_SUBSET_SIZE:
            yield f"kernel distance over subsets of {self._kid_subset_size()} images, not {KID_SUBSET_SIZE}"

    def _quality(self, values: dict[str, float], *notes: str) -> Quality:
        extractor = self.extractor
        return Quality(
            values, extractor.name, extractor.weights_sha256, self.num_real, self.num_images, (*self.notes, *notes)
        )

    def _checked(self, images: Tensor, number: int) -> Tensor:
        expected = (number, *self.image_shape)
        if not isinstance(images, Tensor) or tuple(images.shape) != expected or not images.is_floating_point():
            found = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise InputError(
                f"generate({number}) returned {found}: expected floats {expected} in [-1, 1], as the real images"
            )
        return images

    def _real_batches(self) -> Iterator[Tensor]:
        for indices in _batched(self._real_indices, self.batch_size):
            yield _to_uint8(self._real(indices).to(self.device))

    def _key(self) -> str:
        digest = hashlib.sha256()
        for images in self._real_batches():
            digest.update(images.cpu().contiguous().numpy().tobytes())
        extractor = self.extractor
        facts = (self.num_real, *self.image_shape, extractor.name, extractor.weights_sha256, self.device.type)
        digest.update(repr(facts).encode())
        return digest.hexdigest()

    def _compute(self) -> Tensor:
        return torch.cat([self.extractor.extract(images)[self.extractor.layer] for images in self._real_batches()])

    def _reason_to_refuse(self, features: Tensor) -> str | None:
        images = _to_uint8(self._real(self._real_indices[:NUM_PROBED]).to(self.device))
        expected = self.extractor.extract(images)[self.extractor.layer]
        if features.dtype != torch.float32 or features.shape != (self.num_real, expected.shape[1]):
            return f"it holds {features.dtype} {tuple(features.shape)}, not {self.num_real} rows of {expected.shape[1]}"
        difference = (features[:NUM_PROBED] - expected).abs().max()
        if difference > PROBE_TOLERANCE * expected.abs().max():
            return "the extractor gives other features today: its code or a library has changed"
        return None


def _names(metric: str, label: str | None) -> tuple[str, ...]:
    if label is None:
        return {"fd": ("FID",), "kd": ("KID",), "precision_recall": ("precision", "recall"), "isc": ("IS",)}[metric]
    short = {"fd": ("FD",), "kd": ("KD",), "precision_recall": ("precision", "recall")}[metric]
    return tuple(f"{name}-{label}" for name in short)


def _indexable(real: Dataset | Tensor | Iterable[Tensor]) -> tuple[Callable[[Sequence[int]], Tensor], int]:
    if isinstance(real, Dataset):
        return real.images, real.num_images
    batches = [real] if isinstance(real, Tensor) else list(real)
    if not batches or not all(isinstance(batch, Tensor) and batch.ndim == 4 for batch in batches):
        raise InputError("real images: expected a Dataset, a tensor (N, C, H, W), or one or more such tensors")
    images = torch.cat(batches)
    if images.shape[1] not in (1, 3):
        raise InputError(f"real images {tuple(images.shape)}: channels must be 1 (grey) or 3 (RGB)")
    if not images.is_floating_point() or not (images.abs() <= 1).all():
        raise InputError(
            f"real images {images.dtype}: expected finite floats in [-1, 1]; scale 8 bits by x / 127.5 - 1"
        )
    return (lambda indices: images[list(indices)]), len(images)


def _to_uint8(images: Tensor) -> Tensor:
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def _batched(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


@contextmanager
def _own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Draw from `seed` on the CPU and on this device, and leave both generators as they were found."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else [], device_type="cuda"):
        # Not torch.manual_seed: it would reseed the other devices too.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
