"""A data set cropped, resized and written once, as StyleGAN's tools write it: PNG files stored in a zip, dataset.json.

Written in parts of PART_IMAGES images beside the zip, each whole or not there, so that an interrupted run goes on; the
zip itself appears at the end, complete. The same source gives the same bytes.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from PIL import Image
from torch import Tensor

from osgan.data.dataset import DecodedImages
from osgan.data.loading import available_workers, load_in_order
from osgan.data.sources import check_shape, find_root, read
from osgan.errors import InputError, cause_of

PART_IMAGES = 1000
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: bytes that do not depend on the day

Progress = Callable[[int, int], None]


def prepare(
    source: str,
    out: Path,
    *,
    resolution: int,
    root: str | Path | None = None,
    channels: int | None = None,
    progress: Progress = lambda done, total: None,
) -> str:
    """Write the data set `source` to the zip `out` and its checksum to `out`.sha256; returns the SHA-256.

    `progress` is called with the images done and the images in all. Twice the zip's size is needed on the disk.
    Raises InputError for a source that cannot be read, an `out` that is there or cannot be written, and parts of
    another source.
    """
    check_shape(source, resolution, channels)
    if "\0" in str(out):
        raise InputError(f"{str(out)!r}: no file can have such a name")
    if out.suffix != ".zip":
        raise InputError(f"{str(out)!r}: the name of the zip must end in .zip")
    try:
        if out.exists():
            raise InputError(f"{out} is there already; remove it, or choose another name")
        out.with_name(out.name + ".sha256.tmp").exists()  # longer than any name that is written beside it
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {str(out)[:200]!r}: {getattr(error, 'strerror', None) or error}") from error
    raw = read(source, root=find_root(root), resolution=resolution, seed=0)
    decoded = DecodedImages(raw, resolution=resolution, channels=raw.channels if channels is None else channels)
    parts = out.with_name(out.name + ".parts")
    plan = {"source": source, "images": len(decoded), "shape": list(decoded.image_shape), "part": PART_IMAGES}
    try:
        _open_parts(parts, plan)
        chunks = [range(at, min(at + PART_IMAGES, len(decoded))) for at in range(0, len(decoded), PART_IMAGES)]
        left = [chunk for chunk in chunks if not _part(parts, chunk).exists()]
        progress(len(decoded) - sum(map(len, left)), len(decoded))
        done = len(decoded) - sum(map(len, left))
        for chunk, images in zip(left, load_in_order(decoded, left, num_workers=available_workers(raw)), strict=True):
            _write_part(_part(parts, chunk), chunk, images)
            done += len(chunk)
            progress(done, len(decoded))
        unfinished = parts / "whole.zip"
        _join([_part(parts, chunk) for chunk in chunks], decoded.labels, unfinished)
        with unfinished.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        out.with_name(out.name + ".sha256").write_text(f"{checksum}  {out.name}\n", encoding="utf-8")
        unfinished.replace(out)
        shutil.rmtree(parts)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; what is done lies in {parts} and is kept") from error
    return checksum


def _open_parts(parts: Path, plan: dict[str, object]) -> None:
    parts.mkdir(parents=True, exist_ok=True)
    file = parts / "plan.json"
    if not file.exists():
        _write_whole(file, json.dumps(plan).encode())
    elif (theirs := _read_plan(file)) != plan:
        raise InputError(f"{parts} holds parts of {theirs}, but asked for is {plan}; remove it, or choose another name")


def _read_plan(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read ({cause_of(error)}): remove {file.parent} and begin anew") from error


def _part(parts: Path, chunk: range) -> Path:
    return parts / f"{chunk.start:08d}.zip"


def _name(index: int) -> str:
    return f"{index // 1000:05d}/img{index:08d}.png"


def _write_part(path: Path, chunk: range, images: Tensor) -> None:
    content = io.BytesIO()
    with ZipFile(content, "w", ZIP_STORED) as part:
        for index, image in zip(chunk, images, strict=True):
            part.writestr(ZipInfo(_name(index), LONG_AGO), _png(image))
    _write_whole(path, content.getvalue())


def _png(image: Tensor) -> bytes:
    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    content = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(content, "PNG")
    return content.getvalue()


def _write_whole(path: Path, content: bytes) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _join(parts: list[Path], labels: Tensor | None, out: Path) -> None:
    """Copy the parts into one zip, which checks the CRC of every image, and add the labels."""
    with ZipFile(out, "w", ZIP_STORED) as whole:
        for path in parts:
            try:
                with ZipFile(path) as part:
                    for entry in part.infolist():
                        whole.writestr(ZipInfo(entry.filename, LONG_AGO), part.read(entry))
            except OSError:  # of the disk, and not of what is in the part
                raise
            except Exception as error:  # zipfile raises a dozen unrelated kinds for a damaged file
                raise InputError(f"{path} is damaged ({cause_of(error)}): remove it and run the same again") from error
        pairs = None if labels is None else [[_name(index), int(label)] for index, label in enumerate(labels)]
        whole.writestr(ZipInfo("dataset.json", LONG_AGO), json.dumps({"labels": pairs}))
