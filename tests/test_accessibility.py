"""The report in a browser: nothing asked for, nothing logged, nothing that axe-core calls serious, dark and light."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe import Chromium, audit, axe_source, chromium, pale_text, prepare
from demo_outcomes import write_demo
from made_results import made_results
from report_pages import no_figures

from xtremex.analysis.report import rebuild, write_report

BAD = """<html><body><img src="https://evil.example/x.png"><p style="color: #ccc; background: #fff">pale words</p>
<details><p style="color: #bbb; background: #fff">hidden</p></details><div class="scroll" style="background:
linear-gradient(#fff, #fff)"><p style="color: #ddd">scrolled</p></div><svg><rect width="90" height="30" fill="#ff0"/>
<text y="20" fill="#fff">on yellow</text><text y="60" fill="#000">fine</text></svg>
<script>console.error("told")</script></body></html>"""


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_source()


@pytest.fixture(scope="module")
def page() -> Iterator[Chromium]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything: three arms, moderated map, restarts, retention, untrained languages."""
    folder = tmp_path_factory.mktemp("accessible")
    languages = ("en", "de", "es", "fa", "fr", "it", "ja", "pl", "ru", "zh")
    write_demo(folder, languages=languages, examples=24)
    with no_figures():
        rebuild(folder)
    return folder


def test_the_audit_finds_what_is_wrong(axe: str, page: Chromium, tmp_path: Path) -> None:
    """Otherwise no finding would mean nothing."""
    bad = tmp_path / "bad.html"
    bad.write_text(BAD, encoding="utf-8")
    page.requests.clear()
    page.errors.clear()
    page.open(bad, width=1280)
    assert page.requests == [bad.as_uri(), "https://evil.example/x.png"]
    assert any("told" in error for error in page.errors)
    assert prepare(page) == 1
    found = {finding.rule: finding for finding in audit(page, axe)}
    assert {"image-alt", "html-has-lang", "document-title"} <= set(found)
    assert len(found["color-contrast"].elements) == 3
    assert pale_text(page) == (2, ["on yellow (1.07)"])
    page.errors.clear()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_in_a_browser(axe: str, page: Chromium, folder: Path, scheme: str, width: int) -> None:
    page.requests.clear()
    page.errors.clear()
    page.open(folder / "report.html", width=width, scheme=scheme)
    # the page itself follows the reader's scheme and does not scroll sideways
    assert page.run("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(x) for x in ground[4:-1].split(",")) < 300) == (scheme == "dark")
    assert page.run("document.documentElement.scrollWidth") <= width
    prepare(page)
    findings = audit(page, axe)
    assert not findings, "\n".join(map(str, findings))
    seen, pale = pale_text(page)
    assert seen > 100 and not pale, pale
    assert page.requests == [(folder / "report.html").as_uri()]
    assert page.errors == []


def test_every_figure_is_reached_and_read_by_keyboard(page: Chromium, folder: Path) -> None:
    """One tab stop per drawing; arrows move within it; the focused mark says what it shows."""
    page.open(folder / "report.html", width=1280)
    drawings = page.run("document.querySelectorAll('svg .hit[tabindex=\"0\"]').length")
    assert drawings == page.run(
        "[...document.querySelectorAll('svg')].filter(x => x.querySelector('.hit')).length"
    )
    page.run("document.querySelector('svg .hit[tabindex=\"0\"]').focus(); true")
    label = "document.activeElement.getAttribute('aria-label')"
    first = page.run(label)
    page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
    second = page.run(label)
    assert first and second and first != second


CUT = """[...document.querySelectorAll('.scroll svg')].flatMap(drawing => {
  const edge = drawing.getBoundingClientRect();
  return [...drawing.querySelectorAll('text')].filter(x => x.getBoundingClientRect().left < edge.left - .5
    || x.getBoundingClientRect().right > edge.right + .5).map(x => x.textContent);
})"""
HEADS = """[...document.querySelectorAll('#effects svg')].flatMap(drawing => {
  const heads = [...drawing.querySelectorAll('text.label[text-anchor=middle]')].map(x => x.getBoundingClientRect());
  return heads.flatMap((a, i) => heads.slice(i + 1).filter(b => a.left < b.right && b.left < a.right && a.top < b.bottom
    && b.top < a.bottom).map(b => [a.left, b.left]));
})"""


ENDLESS = "an-intermediate-condition-with-a-name-of-many-words"


@pytest.mark.parametrize("conditions", [("nli", "commonsenseqa"), ("nli", "mmmmmmmmmmmmm"), ("nli", ENDLESS)])
def test_names_are_not_cut_by_their_drawings(
    page: Chromium, tmp_path: Path, without_figures: None, conditions: tuple[str, ...]
) -> None:
    """XTREME's longest names, wide ones, and one that no drawing has room for: it ends in an ellipsis."""
    write_report(made_results(conditions=conditions, targets=("mini-classification", "mini-xnli")), tmp_path)
    page.open(tmp_path / "report.html", width=1280)
    assert page.run(CUT) == []
    assert page.run(HEADS) == []
    labels = set(page.run("[...document.querySelectorAll('svg text')].map(x => x.textContent)"))
    assert "classification" in labels
    if ENDLESS in conditions:
        assert any(label.startswith("an-intermediate-") and label.endswith("…") for label in labels)
    else:
        assert set(conditions) <= labels


def test_long_words_of_a_table_wrap(page: Chromium, tmp_path: Path, without_figures: None) -> None:
    """Licences of two sources, a stage that trains on a mixture: no table scrolls in a window of 1280 pixels."""
    results = made_results()
    suite = dict(results.suite)
    licence = (
        "Unicode-3.0 (CLDR, by way of babel, BSD-3-Clause); BSD-3-Clause (django) and MIT (django-allauth)"
    )
    suite["targets"] = [dict(t, licence=licence) for t in suite["targets"]]
    stage = "intermediate:mini-inference+mini-commonsense+mini-entities+mini-questions+mini-topics+mini-tags"
    arms = ["muse/text", "muse/vision", "muse/scrambled", "muse/distilled"]
    suite["schedules"] = [dict(s, stage=stage, arms=arms) for s in suite["schedules"]]
    write_report(dataclasses.replace(results, suite=suite), tmp_path)
    page.open(tmp_path / "report.html", width=1280)
    prepare(page)
    captions = page.run("""[...document.querySelectorAll('div.scroll:has(table)')].filter(x => x.scrollWidth > x.clientWidth)
      .map(x => x.getAttribute('aria-label'))""")
    assert captions == []
    words = page.run("document.body.innerText")
    assert licence in words and stage in words


def test_rows_keep_their_names_on_a_phone(page: Chromium, folder: Path) -> None:
    """However far a wide table is scrolled, what a number belongs to stands beside it."""
    page.open(folder / "report.html", width=390)
    prepare(page)
    wide = page.run(
        "[...document.querySelectorAll('div.scroll')].filter(x => x.scrollWidth > x.clientWidth + 40).length"
    )
    assert wide > 3
    outside = page.run("""[...document.querySelectorAll('div.scroll')].flatMap(box => {
      box.scrollLeft = box.scrollWidth;
      const edge = box.getBoundingClientRect();
      const names = [...box.querySelectorAll('tbody th[scope=row], .named td:nth-child(2)')];
      return names.filter(x => x.getBoundingClientRect().left < edge.left - 1 || x.getBoundingClientRect().right
        > edge.right).map(x => x.textContent);
    })""")
    assert outside == []


def test_nothing_is_lost_on_paper(page: Chromium, folder: Path) -> None:
    """In print, folded tables are open and have their names; nothing scrolls."""
    page.open(folder / "report.html", width=1280)
    folded = page.run("document.querySelectorAll('details').length")
    assert folded > 3
    page.run("window.dispatchEvent(new Event('beforeprint')); true")
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.run("document.querySelectorAll('details[open]').length") == folded
    shown = page.run("""[...document.querySelectorAll('details caption')].map(x => x.getBoundingClientRect())
      .filter(x => x.height > 10 && x.width > 100).length""")
    assert shown == page.run("document.querySelectorAll('details table').length") > 3
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.run("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    page.call("Emulation.setEmulatedMedia", media="")
