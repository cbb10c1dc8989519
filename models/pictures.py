"""Pictures by key: drawings of OpenMoji, and image files of data sets.

A *key* is the path of an image file (it ends in ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``), or else the name of a
drawing (see :mod:`.openmoji`). Data sets that carry their images inside their records have them written to a cache folder
once, under the digest of their bytes.
"""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, MissingDependency
from . import openmoji

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = ["cache_folder", "check_decodes", "is_file", "opened", "picture", "shown", "stored"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

_PNG, _JPEG, _RIFF, _WEBP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"WEBP"


def cache_folder() -> Path:
    """Where pictures out of records are kept: ``$XTREMEX_CACHE/pictures``, else ``~/.cache/xtremex/pictures``."""
    given = os.environ.get("XTREMEX_CACHE")
    return (Path(given) if given else Path.home() / ".cache" / "xtremex") / "pictures"


def is_file(key: str) -> bool:
    """Whether a key is the path of an image file; the file itself is not looked at."""
    return key.lower().endswith(SUFFIXES)


def shown(key: str) -> str:
    """A key as results print it: of a path the file's name without ending, the same on every machine."""
    return Path(key).stem if is_file(key) else key


def stored(image: Any, beside: Path) -> str:
    """The key of the picture that a record holds.

    Args:
        image: bytes of an image file; ``{"bytes": ..., "path": ...}`` as ``datasets`` stores images (without bytes the
            path counts); or a text: a path, absolute or relative to ``beside``, or the name of a drawing.
        beside: folder of the file that the record came from.

    Bytes are written to ``cache_folder()`` under their SHA-256, once, and atomically. A text that is no file is handed
    on as it stands: captions can be read and counted where the pictures are absent. Raises ``DataError`` for
    anything else, and for bytes that are no PNG, JPEG or WebP.
    """
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes):
        return _kept(image)
    if not isinstance(image, str):
        raise DataError(f"holds {type(image).__name__} where a picture is needed (bytes, a path or a key)")
    path = beside / image
    return str(path.resolve()) if is_file(image) and path.is_file() else image


def _kept(content: bytes) -> str:
    path = cache_folder() / f"{sha256(content).hexdigest()}{_suffix(content)}"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
            stream.write(content)
        os.replace(stream.name, path)
    return str(path.resolve())


def _suffix(content: bytes) -> str:
    if content.startswith(_PNG):
        return ".png"
    if content.startswith(_JPEG):
        return ".jpg"
    if content.startswith(_RIFF) and content[8:12] == _WEBP:
        return ".webp"
    raise DataError(
        f"holds {len(content)} bytes that are no picture of a known format", "PNG, JPEG and WebP are read"
    )


def picture(key: str, size: int) -> Tensor:
    """The picture of a key: uint8 (3, size, size), RGB, on white where it is transparent. Do not write into it.

    Image files are turned as their EXIF data say, scaled (bicubic) until the shorter side is ``size``, and cut to the
    middle square (the preprocessing of CLIP, Radford et al. 2021). Raises ``DataError`` for a file that is absent
    or damaged, ``UnknownName`` for a drawing that does not exist.
    """
    return _decoded(key, size) if is_file(key) else openmoji.picture(key, size)


def opened(key: str, size: int) -> Image:
    """The picture of a key for towers with a preprocessing of their own: a Pillow image, RGB, on white where transparent.

    Image files come in their full size, turned as their EXIF data say, drawings as squares of ``size`` pixels. Raises as
    ``picture`` does.
    """
    image_class = _pillow("Image")
    if not is_file(key):
        return image_class.fromarray(openmoji.picture(key, size).permute(1, 2, 0).numpy())
    try:
        with image_class.open(key) as file:
            turned = _pillow("ImageOps").exif_transpose(file).convert("RGBA")
    except FileNotFoundError as error:
        raise DataError(
            f"{key}: no such picture",
            "lay the pictures beside the file of captions, under the paths it names",
        ) from error
    except OSError as error:
        raise DataError(f"{key}: cannot be read as a picture ({error})", "fetch or copy it again") from error
    white = image_class.new("RGBA", turned.size, "white")
    white.alpha_composite(turned)
    return white.convert("RGB")


def check_decodes(path: Path) -> None:
    """Raise ``DataError`` unless the whole file decodes; a JPEG is decoded small, which is fast and sees every byte."""
    try:
        with _pillow("Image").open(path) as file:
            file.draft("RGB", (32, 32))
            file.load()
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged files
        raise DataError(f"{path}: cannot be read as a picture ({error})", "fetch or copy it again") from error


def _pillow(module: str) -> Any:
    try:
        return import_module(f"PIL.{module}")
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        raise MissingDependency(
            "image files need the package `pillow`, which is not installed", 'pip install "xtremex[vision]"'
        ) from None


@lru_cache(maxsize=1024)
def _decoded(path: str, size: int) -> Tensor:
    whole = opened(path, size)
    numpy, torch = import_module("numpy"), import_module("torch")
    fitted = _pillow("ImageOps").fit(whole, (size, size), _pillow("Image").Resampling.BICUBIC)
    return torch.from_numpy(numpy.asarray(fitted).transpose(2, 0, 1).copy())
