"""Adapters: one protocol, one file per library. Importing this package loads neither torch nor transformers."""

from .registry import Registry, adapters

__all__ = ["Registry", "adapters"]
