"""``--option KEY=VALUE``: keywords of an adapter's ``load`` on the command line."""

from __future__ import annotations

import json
from typing import Any

from ..errors import SuiteError

__all__ = ["parse_option"]


def parse_option(text: str) -> tuple[str, Any]:
    """Key and value; the value is JSON (``true``, ``32``) where it reads as such, else the text itself.

    Raises:
        SuiteError: no ``=``, or nothing before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SuiteError(f"--option {text}: no KEY=VALUE", '--option text_prefix="query: "')
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
