import io
import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def no_data_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.delenv("OSGAN_DATA", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def png() -> Callable[[Image.Image], bytes]:
    return _png


@pytest.fixture
def write_zip(tmp_path: Path) -> Callable[..., Path]:
    def write(files: dict[str, Image.Image | bytes], labels: object = ..., name: str = "set.zip") -> Path:
        path = tmp_path / name
        with ZipFile(path, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, _png(content) if isinstance(content, Image.Image) else content)
            if labels is not ...:
                archive.writestr("dataset.json", json.dumps({"labels": labels}))
        return path

    return write


@pytest.fixture
def numbered_zip(write_zip: Callable[..., Path]) -> Path:
    """30 RGB images of one colour each, 8x8; image i and its label are i, so a batch shows which it holds."""
    names = [f"{i // 10:05d}/img{i:08d}.png" for i in range(30)]
    files = {name: Image.new("RGB", (8, 8), (i, i, i)) for i, name in enumerate(names)}
    return write_zip(files, [[name, i] for i, name in enumerate(names)], "numbered.zip")


@pytest.fixture
def noise() -> Callable[..., Image.Image]:
    def image(seed: int, width: int = 8, height: int = 8, mode: str = "RGB") -> Image.Image:
        shape = (height, width) if mode == "L" else (height, width, len(mode))
        return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))

    return image
