"""Where the development kit lies; tests that want it skip where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(os.environ.get("XTREMEX_SHARED") or Path(__file__).resolve().parents[2] / "shared")
"""``shared/`` beside the checkout, or wherever the environment says (CI works in a clone elsewhere)."""
