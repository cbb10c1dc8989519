"""A page in headless Chromium: what it asks for, what it logs, and what axe-core finds in it.

Chromium is driven through a pipe (``--remote-debugging-pipe``, the DevTools protocol in null-terminated JSON), so that
media features, window sizes and requests can be set and seen with the standard library alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Chromium", "Finding", "audit", "axe_source", "browser_path", "chromium", "pale_text", "prepare"]

AXE = "4.14.1"
SERIOUS = ("serious", "critical")
CACHE = Path("~/.cache/xtremex-tests").expanduser()
INSTALL = f"mkdir -p {CACHE} && cd {CACHE} && npm pack axe-core@{AXE}"


@dataclass(frozen=True)
class Finding:
    """A rule of axe-core that some elements break."""

    rule: str
    impact: str
    help: str
    elements: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.impact}: {self.rule} ({self.help}) at {len(self.elements)}: {'; '.join(self.elements[:3])}"


def browser_path() -> str:
    """Chromium, or the test is skipped with the line that installs it."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no chromium: apt-get install chromium")


def axe_source() -> str:
    """axe-core from ``XTREMEX_AXE`` (a file), `node_modules` beside the repository, or the tests' cache, else skip."""
    root = Path(__file__).resolve().parents[1]
    named = os.environ.get("XTREMEX_AXE")
    for path in ([Path(named)] if named else []) + [root / "node_modules" / "axe-core" / "axe.min.js"]:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    packed = CACHE / f"axe-core-{AXE}.tgz"
    if packed.is_file():
        with tarfile.open(packed) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            return member.read().decode("utf-8")
    pytest.skip(f"no axe-core: {INSTALL}, or set XTREMEX_AXE to axe.min.js")


@dataclass
class Chromium:
    """One page of a running browser."""

    process: subprocess.Popen[bytes]
    to: int
    back: int
    session: str = ""
    requests: list[str] = field(default_factory=list)
    """Addresses that the page asked for, its own included."""
    errors: list[str] = field(default_factory=list)
    """Errors and warnings of the console, exceptions, and violations of the page's content security policy."""
    _number: int = 0
    _rest: bytes = b""
    _events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self.back, 1 << 16)
            assert part, "chromium closed its pipe"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self._note(message["method"], message.get("params", {}))
            self._events.append(message)
        return message

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(event["exceptionDetails"].get("exception", event["exceptionDetails"])))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.errors.append(f"{event['type']}: {event['args']}")
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.errors.append(event["entry"]["text"])

    def open(self, page: Path, *, width: int, height: int = 900, scheme: str = "light") -> None:
        """Load a page whole, at a window size and with a preferred colour scheme (``light`` or ``dark``)."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._next()

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")


@contextmanager
def chromium() -> Iterator[Chromium]:
    """A browser with one empty page."""
    browser = browser_path()
    read_back, write_back = os.pipe()
    read_to, write_to = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # the browser reads commands from descriptor 3 and writes to 4
        command = [
            "bash",
            "-c",
            f'exec "$0" "$@" 3<&{read_to} 4>&{write_back}',
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
        ]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, pass_fds=(read_to, write_back), stdout=quiet, stderr=quiet)
        os.close(read_to)
        os.close(write_back)
        page = Chromium(process, write_to, read_back)
        try:
            target = page.call("Target.createTarget", url="about:blank")["targetId"]
            attached = page.call("Target.attachToTarget", targetId=target, flatten=True)
            page.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            yield page
        finally:
            os.close(write_to)
            os.close(read_back)
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def audit(page: Chromium, source: str, *, impacts: tuple[str, ...] = SERIOUS) -> list[Finding]:
    """What axe-core finds in the open page, of these impacts."""
    # evaluated by the debugger, which the page's content security policy does not stop
    page.run(source + "; true")
    found = page.run(
        "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))"
    )
    return [
        Finding(v["id"], v["impact"], v["help"], tuple(str(node["target"]) for node in v["nodes"]))
        for v in json.loads(found)
        if v["impact"] in impacts
    ]


# tables in a scrolling box stand on its shadow, a gradient that axe-core gives up on; details hide what they hold
_PREPARE = """(() => {
  document.querySelectorAll('details').forEach(x => { x.open = true; });
  const style = document.createElement('style');
  style.textContent = '.scroll { background-image: none !important; }';
  document.head.append(style);
  return document.querySelectorAll('details').length;
})()"""

# axe-core does not see what lies behind text in a drawing: the last shape painted before it at its centre, else the page
_PALE = """(() => {
  const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = c => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const page = rgba(getComputedStyle(document.body).backgroundColor);
  const pale = [];
  let seen = 0;
  for (const drawing of document.querySelectorAll('svg')) {
    const painted = [];
    for (const node of drawing.querySelectorAll('rect, path, circle, polygon, text')) {
      const style = getComputedStyle(node), box = node.getBoundingClientRect();
      if (node.tagName !== 'text') {
        const alpha = Number(style.opacity) * Number(style.fillOpacity);
        if (style.fill.startsWith('rgb')) painted.push([box, rgba(style.fill), alpha]);
        continue;
      }
      if (!node.textContent.trim() || !box.width || style.visibility === 'hidden') continue;
      seen += 1;
      const x = box.x + box.width / 2, y = box.y + box.height / 2;
      let ground = over(page, [255, 255, 255]);
      for (const [b, fill, alpha] of painted)
        if (b.left <= x && x <= b.right && b.top <= y && y <= b.bottom)
          ground = over([...fill.slice(0, 3), fill[3] * alpha], ground);
      const own = rgba(style.fill);
      const ink = over([...own.slice(0, 3), own[3] * style.opacity], ground);
      const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
      const ratio = (high + .05) / (low + .05);
      const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      if (ratio < (large ? 3 : 4.5)) pale.push(`${node.textContent.trim()} (${ratio.toFixed(2)})`);
    }
  }
  return JSON.stringify([seen, pale]);
})()"""


def prepare(page: Chromium) -> int:
    """Open every ``details`` and take the shadows from scrolling boxes, so that all can be judged; how many details."""
    return page.run(_PREPARE)


def pale_text(page: Chromium) -> tuple[int, list[str]]:
    """Texts in drawings that were looked at, and those whose contrast is below WCAG's 4.5 (3 for large ones)."""
    seen, pale = json.loads(page.run(_PALE))
    return seen, pale
