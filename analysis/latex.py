r"""Tables as LaTeX: a booktabs ``tabular`` and its note, ready for ``\input`` inside a ``table``."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from .bibliography import render
from .tables import ITALICS, Block, Row, Table, Text

__all__ = ["digest", "escape", "latex_methods", "latex_table", "pages"]

THIN = r"\,"

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    "\N{MINUS SIGN}": r"\ensuremath{-}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "≈": r"\ensuremath{\approx}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "→": r"\ensuremath{\rightarrow}",
    "·": r"\ensuremath{\cdot}",
    "†": r"\ensuremath{^{\dagger}}",
    "α": r"\ensuremath{\alpha}",
    "Δ": r"\ensuremath{\Delta}",
    "–": "--",
    "—": "---",
    '"': "''",
    # after the end of a row, LaTeX would read these as options
    "[": "{[}",
    "*": "{*}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "\N{NO-BREAK SPACE}": "~",
    "ß": r"{\ss}",
    "æ": r"{\ae}",
    "Æ": r"{\AE}",
    "œ": r"{\oe}",
    "ø": r"{\o}",
    "Ø": r"{\O}",
    "ł": r"{\l}",
    "Ł": r"{\L}",
    "ı": r"{\i}",
}

_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def _letter(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    base, *marks = unicodedata.normalize("NFD", character)
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    # plain pdflatex has no glyph for it: say which character stood there instead of stopping the paper
    return f"{{[}}U+{ord(character):04X}]"


def escape(words: str) -> str:
    """Any string as LaTeX text that compiles in any font encoding, with no package."""
    return "".join(map(_letter, " ".join(unicodedata.normalize("NFC", words).split())))


def _breakable(signature: str) -> str:
    """A long line without spaces, with places to break it: after punctuation and within long digests."""
    pieces = re.findall(r"[^|:/,;@=+.\-]{1,12}|[|:/,;@=+.\-]", signature)
    return r"\allowbreak{}".join(map(escape, pieces))


def digest(signature: str) -> str:
    """The first 12 hexadecimal digits of the signature's SHA-256: what a table has room for."""
    return hashlib.sha256(signature.encode()).hexdigest()[:12]


def _apart(rows: Sequence[str]) -> str:
    """What the signs of exploratory estimates mean, as far as these rows have them.

    Instead of italics, which a paper's own table style may lose, and which the headings of groups have already.
    """
    found = any(r"\textsuperscript{e*}" in line for line in rows)
    also = r"; \textsuperscript{e*} so, and different after correction (not in bold)" if found else ""
    return rf"\textsuperscript{{e}} Exploratory; the rest is registered{also}."


def _row(r: Row, mixed: bool) -> list[str]:
    """The cells of a row; ``mixed``: exploratory ones among registered ones, which get a sign and are not bold."""
    cells = []
    for place, cell in enumerate(r.cells):
        body = escape(cell.text)
        if not mixed or not (r.exploratory or cell.italic):
            cells.append(rf"\textbf{{{body}}}" if cell.strong else body)
        elif cell.italic or cell.strong or place == 0:
            cells.append(rf"{body}\textsuperscript{{{'e*' if cell.strong else 'e'}}}")
        else:
            cells.append(body)
    return cells


def _small(cell: Text, size: str) -> str:
    # an interval: a thin space keeps ten of them on a page
    return rf"{{{size} {escape(cell.sub).replace(', ', ',' + THIN)}}}" if cell.sub else ""


def latex_methods(paragraphs: Sequence[str], signature: str) -> str:
    r"""`methods.tex`: each paragraph under its first words, with ``\citep`` for what `references.bib` holds."""
    lines = [
        r"% In the preamble: \usepackage{natbib} (ACL styles load it). At the end: \bibliography{references}",
        # names with a hyphen break nowhere else: rather wide blanks than words beyond the line
        r"\begingroup\emergencystretch=4em",
    ]
    for paragraph in paragraphs:
        head, _, body = paragraph.partition(". ")
        said = render(body, _running, lambda keys: rf"\citep{{{','.join(keys)}}}")
        lines += [rf"\paragraph{{{escape(head)}.}} {said}", ""]
    lines += [
        rf"\paragraph{{Signature.}} {{\raggedright\texttt{{{_breakable(signature)}}} "
        rf"(SHA-256 \texttt{{{digest(signature)}}}\ldots, as in the tables).\par}}",
        r"\endgroup",
        "",
    ]
    return "\n".join(lines)


def _running(words: str) -> str:
    """Escaped, with the blanks at its ends: a citation follows or precedes."""
    before, after = (" " if words[:1].isspace() else ""), (" " if words[-1:].isspace() else "")
    return f"{before}{escape(words)}{after}" if words.strip() else words


_WIDE = 8
"""Columns beyond which the usual size is wider than a page: nine targets and their mean."""
_PAGE = 600.0
"""Points of a page of ACL's 24.7 cm that the rows of a table may take: caption and note need the rest."""


def _two_lines(table: Table) -> bool:
    """Whether companions stand on a line of their own below the row."""
    subs = [cell.sub for b in table.blocks for r in b.rows for cell in r.cells]
    return any(sub.startswith("[") or (sub and len(table.columns) > _WIDE) for sub in subs)


def pages(table: Table) -> list[Table]:
    """The table in parts that a page holds each: between blocks first, within one where it is longer than a page."""
    if not table:
        return []
    line = 9.5 if len(table.columns) > _WIDE else 11.0
    tall = 2 * line - 1.5 if _two_lines(table) else line
    most = int((_PAGE - 4 * line) / tall)
    parts: list[list[Block]] = [[]]
    left = most
    for block in table.blocks:
        rows = block.rows
        # a heading and its rules take two rows
        while rows:
            if parts[-1] and len(rows) + 2 > left:
                parts.append([])
                left = most
            taken = rows[: left - 2]
            parts[-1].append(replace(block, rows=taken))
            left -= len(taken) + 2
            rows = rows[len(taken) :]
    return [replace(table, blocks=tuple(part)) for part in parts]


def latex_table(table: Table, signature: str, file: str) -> str:
    r"""The table as a fragment: group, ``tabular``, note. Needs ``\usepackage{booktabs}``.

    The note ends with the digest of the signature; the whole line is a comment here and printed by `methods.tex`.

    Where cells have a companion in brackets (an interval), it goes on a line of its own below the row, so
    that nine targets still fit the width of a page; one in parentheses (an SD) stays beside the value, in
    tables of up to eight columns.
    ``file`` is the stem that the paper will name in ``\input``.
    """
    spec = "".join("r" if column.numeric else "l" for column in table.columns)
    small_type = len(spec) > _WIDE
    body, small, gap = (
        (r"\scriptsize", r"\tiny", "2pt") if small_type else (r"\footnotesize", r"\scriptsize", "4pt")
    )
    if table.slim:
        gap = "3pt"
    place = (
        "a table (it fits a column of 7.7 cm)" if table.slim else "a table* (a table in one-column papers)"
    )
    matrix = _two_lines(table)
    mixed = ITALICS in table.note
    lines = [
        f"% {escape(table.caption)}",
        f"% {escape(signature)}",
        rf"% In the preamble: \usepackage{{booktabs}}. In {place}: \input{{tables/{file}}}",
        rf"{{{body}\setlength{{\tabcolsep}}{{{gap}}}%",
        rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
        r"\toprule",
        " & ".join(escape(column.title) for column in table.columns) + r" \\",
    ]
    for block in table.blocks:
        if not block.rows:
            continue
        lines.append(r"\midrule")
        if block.title:
            lines.append(
                rf"\multicolumn{{{len(table.columns)}}}{{@{{}}l}}{{\textit{{{escape(block.title)}}}}} \\"
            )
        for r in block.rows:
            if r.rule:
                lines.append(r"\addlinespace")
            if matrix:
                lines.append(" & ".join(_row(r, mixed)) + r" \\[-0.4ex]")
                lines.append(" & ".join(_small(c, small) for c in r.cells) + r" \\")
            else:
                lines.append(
                    " & ".join(
                        " ".join(filter(None, (body, _small(cell, small))))
                        for body, cell in zip(_row(r, mixed), r.cells, strict=True)
                    )
                    + r" \\"
                )
    lines += [
        r"\bottomrule",
        r"\end{tabular}\par}",
        r"\smallskip",
        r"\noindent\begin{minipage}{\linewidth}\raggedright\scriptsize",
        escape(table.note).replace(escape(ITALICS), _apart(lines)),
        rf"Signature: SHA-256 \texttt{{{digest(signature)}}}.",
        r"\end{minipage}",
        "",
    ]
    return "\n".join(lines)
