"""References that the methods of a report cite: marks in running text, keys, BibTeX.

A text cites with a mark that no printable text contains; each format of the report turns it into its own citation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

__all__ = ["REFERENCES", "Reference", "bibtex", "cite", "cited", "render"]

# private-use characters: names of suites, printed in the same sentences, do not hold them
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"{_OPEN}([a-z0-9,]+){_CLOSE}")


@dataclass(frozen=True)
class Reference:
    key: str
    kind: str
    """BibTeX entry type."""
    authors: tuple[str, ...]
    """``Family, Given``."""
    title: str
    year: int
    venue: str
    """Journal, proceedings or publisher."""
    place: tuple[tuple[str, str], ...] = ()
    """Further BibTeX fields: volume, number, pages, doi, eprint."""

    @property
    def short(self) -> str:
        """``Smyth, 2004``."""
        names = [author.partition(",")[0] for author in self.authors]
        if len(names) > 2:
            return f"{names[0]} et al., {self.year}"
        return f"{' & '.join(names)}, {self.year}"

    @property
    def words(self) -> str:
        """The entry of a reference list, as plain text."""
        known = {name: value.replace("--", "–") for name, value in self.place}
        where = self.venue
        if "volume" in known:
            where += f" {known['volume']}" + (f"({known['number']})" if "number" in known else "")
        if "pages" in known:
            where += f": {known['pages']}"
        named = "; ".join(self.authors)
        doi = f" doi:{known['doi']}." if "doi" in known else ""
        return f"{named} ({self.year}). {self.title}. {where}.{doi}"

    @property
    def entry(self) -> str:
        """The BibTeX entry; braces keep the capitals of the title."""
        venue = {"article": "journal", "inproceedings": "booktitle", "book": "publisher"}[self.kind]
        fields = [
            ("author", " and ".join(map(_tex, self.authors))),
            ("title", "{" + _tex(self.title) + "}"),
            (venue, _tex(self.venue)),
            ("year", str(self.year)),
            *self.place,
        ]
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields)
        return f"@{self.kind}{{{self.key},\n{lines}}}\n"


def _tex(words: str) -> str:
    for character, command in (("×", r"$\times$"), ("é", r"{\'e}"), ("&", r"\&")):
        words = words.replace(character, command)
    return words


def _article(
    key: str, authors: str, title: str, year: int, journal: str, place: str, doi: str = ""
) -> Reference:
    """``authors`` separated by semicolons; ``place`` is ``volume(number): pages``, each part optional."""
    volume, number, pages = re.fullmatch(r"(\d*)(?:\(([\d-]+)\))?(?:: ?(\S+))?", place).groups()  # type: ignore[union-attr]
    given = (("volume", volume), ("number", number), ("pages", pages), ("doi", doi))
    fields = tuple((name, value.replace("-", "--")) if name != "doi" else (name, value)
                   for name, value in given if value)  # fmt: skip
    return Reference(key, "article", _people(authors), title, year, journal, fields)


def _people(authors: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in authors.split(";"))


_LISTED = (
    Reference(
        "phang2020", "inproceedings",
        _people("Phang, Jason; Calixto, Iacer; Htut, Phu Mon; Pruksachatkun, Yada; Liu, Haokun; Vania, Clara; "
                "Kann, Katharina; Bowman, Samuel R."),
        "English Intermediate-Task Training Improves Zero-Shot Cross-Lingual Transfer Too", 2020,
        "Proceedings of AACL-IJCNLP", (("pages", "557--575"),),
    ),
    Reference(
        "yang2020", "inproceedings",
        _people("Yang, Yinfei; Cer, Daniel; Ahmad, Amin; Guo, Mandy; Law, Jax; Constant, Noah; Hernandez Abrego, Gustavo; "
                "Yuan, Steve; Tar, Chris; Sung, Yun-hsuan; Strope, Brian; Kurzweil, Ray"),
        "Multilingual Universal Sentence Encoder for Semantic Retrieval", 2020,
        "Proceedings of the 58th Annual Meeting of the Association for Computational Linguistics: System Demonstrations",
        (("pages", "87--94"), ("doi", "10.18653/v1/2020.acl-demos.12")),
    ),
    Reference(
        "hu2020", "inproceedings",
        _people("Hu, Junjie; Ruder, Sebastian; Siddhant, Aditya; Neubig, Graham; Firat, Orhan; Johnson, Melvin"),
        "XTREME: A Massively Multilingual Multi-task Benchmark for Evaluating Cross-lingual Generalisation", 2020,
        "Proceedings of the 37th International Conference on Machine Learning",
        (("series", "PMLR"), ("volume", "119"), ("pages", "4411--4421")),
    ),
    Reference(
        "radford2021", "inproceedings",
        _people("Radford, Alec; Kim, Jong Wook; Hallacy, Chris; Ramesh, Aditya; Goh, Gabriel; Agarwal, Sandhini; "
                "Sastry, Girish; Askell, Amanda; Mishkin, Pamela; Clark, Jack; Krueger, Gretchen; Sutskever, Ilya"),
        "Learning Transferable Visual Models From Natural Language Supervision", 2021,
        "Proceedings of the 38th International Conference on Machine Learning",
        (("series", "PMLR"), ("volume", "139"), ("pages", "8748--8763")),
    ),
    Reference(
        "westfall1993", "book", _people("Westfall, Peter H.; Young, S. Stanley"),
        "Resampling-Based Multiple Testing: Examples and Methods for p-Value Adjustment", 1993, "Wiley",
    ),
    _article("welch1947", "Welch, B. L.",
             "The Generalization of Student's Problem when Several Different Population Variances are Involved", 1947,
             "Biometrika", "34(1-2): 28-35", "10.1093/biomet/34.1-2.28"),
    _article("satterthwaite1946", "Satterthwaite, F. E.", "An Approximate Distribution of Estimates of Variance Components",
             1946, "Biometrics Bulletin", "2(6): 110-114", "10.2307/3002019"),
    _article("cameron2011", "Cameron, A. Colin; Gelbach, Jonah B.; Miller, Douglas L.",
             "Robust Inference with Multiway Clustering", 2011, "Journal of Business & Economic Statistics",
             "29(2): 238-249", "10.1198/jbes.2010.07136"),
    _article("smyth2004", "Smyth, Gordon K.",
             "Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray Experiments",
             2004, "Statistical Applications in Genetics and Molecular Biology", "3(1): 3", "10.2202/1544-6115.1027"),
    _article("holm1979", "Holm, Sture", "A Simple Sequentially Rejective Multiple Test Procedure", 1979,
             "Scandinavian Journal of Statistics", "6(2): 65-70"),
    _article("benjamini1995", "Benjamini, Yoav; Hochberg, Yosef",
             "Controlling the False Discovery Rate: A Practical and Powerful Approach to Multiple Testing", 1995,
             "Journal of the Royal Statistical Society, Series B", "57(1): 289-300",
             "10.1111/j.2517-6161.1995.tb02031.x"),
    _article("benjamini2001", "Benjamini, Yoav; Yekutieli, Daniel",
             "The Control of the False Discovery Rate in Multiple Testing under Dependency", 2001,
             "The Annals of Statistics", "29(4): 1165-1188", "10.1214/aos/1013699998"),
    _article("benjamini2008", "Benjamini, Yoav; Heller, Ruth", "Screening for Partial Conjunction Hypotheses", 2008,
             "Biometrics", "64(4): 1215-1222", "10.1111/j.1541-0420.2007.00984.x"),
    _article("benjamini2014", "Benjamini, Yoav; Bogomolov, Marina",
             "Selective Inference on Multiple Families of Hypotheses", 2014,
             "Journal of the Royal Statistical Society, Series B", "76(1): 297-318", "10.1111/rssb.12028"),
    _article("dror2017", "Dror, Rotem; Baumer, Gili; Bogomolov, Marina; Reichart, Roi",
             "Replicability Analysis for Natural Language Processing: Testing Significance with Multiple Datasets", 2017,
             "Transactions of the Association for Computational Linguistics", "5: 471-486"),
    _article("schuirmann1987", "Schuirmann, Donald J.",
             "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing the Equivalence "
             "of Average Bioavailability", 1987, "Journal of Pharmacokinetics and Biopharmaceutics", "15(6): 657-680",
             "10.1007/BF01068419"),
    _article("loftus1978", "Loftus, Geoffrey R.", "On Interpretation of Interactions", 1978, "Memory & Cognition",
             "6(3): 312-319", "10.3758/BF03197461"),
    _article("fisher1935", "Fisher, R. A.", "The Logic of Inductive Inference", 1935,
             "Journal of the Royal Statistical Society", "98(1): 39-82", "10.2307/2342435"),
    _article("zelen1971", "Zelen, M.", "The Analysis of Several 2 × 2 Contingency Tables", 1971, "Biometrika",
             "58(1): 129-137", "10.1093/biomet/58.1.129"),
)  # fmt: skip

REFERENCES: dict[str, Reference] = {reference.key: reference for reference in _LISTED}


def cite(*keys: str) -> str:
    """A mark that cites ``keys``, to stand in a sentence; ``KeyError`` for one that is not in the list."""
    for key in keys:
        REFERENCES[key]
    return f"{_OPEN}{','.join(keys)}{_CLOSE}"


def _keys(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(key for key in match[1].split(",") if key in REFERENCES)


def cited(texts: Iterable[str]) -> tuple[Reference, ...]:
    """What the texts cite, in alphabetical order of authors."""
    found = {key for text in texts for match in _MARK.finditer(text) for key in _keys(match)}
    return tuple(sorted((REFERENCES[key] for key in found), key=lambda r: (r.authors, r.year)))


def render(text: str, plain: Callable[[str], str], citation: Callable[[tuple[str, ...]], str]) -> str:
    """The text in one format: ``plain`` writes what lies between the marks, ``citation`` the keys of one mark."""

    def pieces() -> Iterator[str]:
        last = 0
        for match in _MARK.finditer(text):
            if keys := _keys(match):
                yield plain(text[last : match.start()])
                yield citation(keys)
                last = match.end()
        yield plain(text[last:])

    return "".join(pieces())


def bibtex(references: Iterable[Reference]) -> str:
    """`references.bib`: entries in the order of their keys."""
    return "\n".join(reference.entry for reference in sorted(references, key=lambda r: r.key))
