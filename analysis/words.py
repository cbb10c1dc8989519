"""What the report's own words mean, for a reader who has not met them: only those that the report uses."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["placebo", "words"]

_WORDS: tuple[tuple[str, str, str], ...] = (
    ("arm", r"\barms?\b", "one of the encoders that are compared; all go through the same training"),
    (
        "intermediate condition",
        r"\bintermediate condition",
        "the task, or mixture of tasks, on which an arm is trained before the targets; listed under Tasks",
    ),
    ("target", r"\btargets?\b", "a task on which the arms are scored, in many languages"),
    ("cell", r"\bcells?\b", "one arm, condition and target; for an effect, one condition and target"),
    (
        "seed, run",
        r"\bseeds?\b",
        "a seed is one repetition of the training, from the same pre-trained encoder; a run is one training with its scores",
    ),
    (
        "gain",
        r"\bgains?\b",
        "score after intermediate training minus score without it, in points (100 × metric)",
    ),
    (
        "effect",
        r"\beffects?\b",
        "gain of the first arm minus gain of the second: a difference in differences",
    ),
    (
        "placebo",
        r"\b[Pp]lacebo\b",
        "an arm, or a comparison with it, in which what the suite studies is put out of action",
    ),
    (
        "tier",
        r"\btier\b",
        "what an interval and a p-value hold for: T0 new examples (these trained models), T1 new seeds (these "
        "examples), T2 new seeds and new examples, T3 also new languages",
    ),
    (
        "MWV-t",
        r"\bMWV-t\b",
        "the test: Student's t with a multi-way variance, the part of the runs plus that of the shared test examples",
    ),
    (
        "df",
        r"\bdf\b",
        "degrees of freedom: on how much the estimated variance rests; few of them widen an interval",
    ),
    ("CI", r"\bCI\b", "confidence interval: the range of effects that the data are compatible with"),
    (
        "adjusted p",
        r"\badj\. p\b|[Aa]djusted",
        "a p-value made larger for the number of tests of its family: Holm limits the chance of any false finding, "
        "Benjamini-Hochberg (BH) the expected share of false ones among the findings, BY the same under any dependence",
    ),
    (
        "max-T",
        r"\bmax-T\b",
        "an adjustment like Holm's that uses how the tests of a family depend on each other",
    ),
    (
        "moderated",
        r"\bmoderated\b",
        "of a variance: drawn towards that of other cells of the same target, because a few seeds say little about one; "
        "“own variance” is without that",
    ),
    (
        "equivalent, TOST",
        r"\bequivalen|\bTOST\b|\(equiv\.\)",
        "two one-sided tests show the effect to be smaller than the margin; “p (equiv.)” is theirs, not adjusted",
    ),
    ("margin", r"\bmargin\b", "the largest effect that counts as negligible; the suite sets it"),
    (
        "inconclusive",
        r"\binconclusive\b",
        "neither different from 0 nor equivalent: no evidence for either, not evidence of no effect",
    ),
    (
        "MDE, detectable effect",
        r"\bMDE\b|detectable effect",
        "the effect that 80 % of repetitions would find: how sensitive the design is, not how large the effect may "
        "be (for that read the interval)",
    ),
    (
        "log-odds",
        r"\blog-odds\b|\blogit\b",
        "ln(p / (1 − p)) of a score p: a scale on which a point near 0 or 100 counts for more",
    ),
    (
        "shrunken",
        r"\b[Ss]hrunken\b",
        "drawn towards the mean over languages, by as much as the noise of the single one asks for",
    ),
    (
        "partial conjunction",
        r"[Pp]artial conjunction",
        "a test that at least so many of the targets have an effect",
    ),
    (
        "ladder, dose",
        r"\bladder\b",
        "arms ordered by how much of the cause they have; the trend is the slope over it",
    ),
    (
        "confirmatory, exploratory",
        r"\bconfirmatory\b|\bexploratory\b",
        "confirmatory: registered before scores were read, and analysed so; exploratory: all else",
    ),
    ("retention", r"\b[Rr]etention\b", "what intermediate training leaves of image-text retrieval"),
)


def words(said: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(word, meaning) of each word that occurs in the texts, in an order in which they build on each other."""
    whole = "\n".join(said)
    return tuple((name, meaning) for name, pattern, meaning in _WORDS if re.search(pattern, whole))


def placebo(arm: str) -> str:
    """What the placebo beside the answer is, in a sentence; ``arm`` is its first arm."""
    if arm == "scrambled":
        return (
            "The placebo is an arm made like the vision-language arm, but with pictures that do not belong to their "
            "texts: what it gains is not owed to what pictures show."
        )
    return "The placebo is a comparison whose effect is not owed to what the suite studies."
