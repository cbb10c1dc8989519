"""A user's folder of images with a table of captions: ``captions.jsonl``, ``captions.tsv`` or ``captions.parquet``.

Columns: ``image`` (path relative to the folder), ``language`` (a code of the user's choice) and ``caption`` (a text, or in
JSON Lines and Parquet a list of texts). Further columns are ignored. Everything is checked before anything is trained.
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, nearest
from .captions import Captions
from .pictures import SUFFIXES, check_decodes

__all__ = ["FILES", "read_folder"]

FILES = ("captions.jsonl", "captions.tsv", "captions.parquet")
COLUMNS = ("image", "language", "caption")


class _Row(NamedTuple):
    where: str
    image: str
    language: str
    captions: tuple[str, ...]


def read_folder(folder: Path, languages: tuple[str, ...] = ()) -> Captions:
    """The caption set of a folder, with ``languages`` of it (all, where none are named).

    Raises:
        DataError: no table or several, a missing column, a value that is no text, the same caption twice, images that
            are missing or cannot be decoded; whatever :class:`Captions` refuses.
    """
    if not folder.is_dir():
        raise DataError(f"no folder `{folder}`", "folder:PATH names a folder of images with a captions.jsonl")
    found = [name for name in FILES if (folder / name).is_file()]
    if len(found) != 1:
        raise DataError(
            f"`{folder}` has {' and '.join(found) or 'no table of captions'}, where one of {', '.join(FILES)} is needed",
            'a line of captions.jsonl: {"image": "dog.jpg", "language": "en", "caption": "A dog runs."}',
        )
    of: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    spelt: dict[str, _Row] = {}
    for row in _rows(folder / found[0]):
        first = spelt.setdefault(row.language.casefold().replace("_", "-"), row)
        if first.language != row.language:
            raise DataError(
                f"{row.where}: language `{row.language}`, which is spelt `{first.language}` at {first.where}",
                "write one code a language: these would be two",
            )
        known = of[row.image][row.language]
        for caption in row.captions:
            if caption in known:
                raise DataError(
                    f"{row.where}: `{row.image}` has the caption {caption!r} in `{row.language}` twice, before at "
                    f"{known[caption]}",
                    "remove one: a pair of equal captions teaches nothing",
                )
            known[caption] = row.where
    if not of:
        raise DataError(
            f"{folder / found[0]} holds no captions", f"it needs the columns {', '.join(COLUMNS)}"
        )
    contents = _digests(folder, sorted(of))
    captions = {image: {name: list(texts) for name, texts in own.items()} for image, own in of.items()}
    places = {image: str((folder / image).resolve()) for image in of}
    return Captions(f"folder {folder}", captions, contents, places, languages)


def _rows(path: Path) -> Iterator[_Row]:
    for where, fields in _records(path):
        for column in COLUMNS:
            if column not in fields:
                raise DataError(f"{where}: no column `{column}`", nearest(column, fields))
        image, language, caption = (fields[column] for column in COLUMNS)
        captions: list[Any] = caption if isinstance(caption, list) and caption else [caption]
        for column, value in (("image", image), ("language", language), *(("caption", c) for c in captions)):
            if not isinstance(value, str) or not value.strip():
                raise DataError(
                    f"{where}: column `{column}` holds {value!r} where a text is needed",
                    "fill it, or remove the line",
                )
            if not _is_unicode(value):
                raise DataError(
                    f"{where}: column `{column}` holds half a character (a lone surrogate): {value!r}",
                    "it was cut in the middle of an emoji or a rare sign; write it again as UTF-8",
                )
        yield _Row(where, Path(image).as_posix(), language.strip(), tuple(c.strip() for c in captions))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, column -> value) of every record."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            for number, fields in enumerate(pq.read_table(path).to_pylist(), 1):
                yield f"{path}:{number}", fields
            return
        columns: list[str] = []
        with path.open(encoding="utf-8-sig", newline="") as lines:  # spreadsheets put a mark before UTF-8
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                if path.suffix == ".tsv":
                    # a caption may hold quotation marks, and be of any length: nothing is quoted in such tables
                    cells = line.rstrip("\r\n").split("\t")
                    if columns:
                        yield f"{path}:{number}", dict(zip(columns, cells, strict=False))
                    columns = columns or cells
                    continue
                fields = json.loads(line)
                if not isinstance(fields, dict):
                    raise DataError(f"{path}:{number}: no JSON object", "each line is one object")
                yield f"{path}:{number}", fields
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {error}", "it must be UTF-8, one record a line") from error


def _digests(folder: Path, images: list[str]) -> dict[str, str]:
    """image -> SHA-256 of its file; all that is missing or no picture is named at once."""
    missing = [image for image in images if not (folder / image).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(images)} images are not in {folder}: {_few(missing)}",
            _spelt_otherwise(folder, missing[0]) or "column `image` holds paths relative to the folder",
        )
    foreign = [image for image in images if not image.lower().endswith(SUFFIXES)]
    if foreign:
        raise DataError(
            f"{len(foreign)} of {len(images)} images have no ending of a known format: {_few(foreign)}",
            f"known: {', '.join(SUFFIXES)}",
        )
    digests, broken = {}, []
    for image in images:
        try:
            check_decodes(folder / image)
        except DataError as error:
            broken.append(f"{image} ({error.message.rpartition('(')[2].rstrip(')')})")
        with (folder / image).open("rb") as file:
            digests[image] = file_digest(file, "sha256").hexdigest()
    if broken:
        raise DataError(
            f"{len(broken)} of {len(images)} images in {folder} cannot be decoded: {_few(broken)}",
            "copy them again, or remove their captions",
        )
    return digests


def _spelt_otherwise(folder: Path, image: str) -> str:
    """A hint at the file that a human would take for ``image``: of another case, or with its accents stored otherwise."""

    def plain(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    directory = (folder / image).parent
    for other in sorted(directory.iterdir()) if directory.is_dir() else ():
        if plain(other.name) == plain(Path(image).name):
            same = unicodedata.normalize("NFC", other.name) == unicodedata.normalize("NFC", Path(image).name)
            how = "in how accents are stored (Unicode NFC and NFD)" if same else "in upper and lower case"
            return f"the folder has `{other.name}`, which differs only {how}; rename one of the two"
    return ""


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
