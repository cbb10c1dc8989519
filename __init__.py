"""xtremex: does intermediate-task training help vision-language encoders more than text-only ones?

Five rooms, one way down:

- ``xtremex.benchmark``: suite -> plan -> train -> evaluate -> store, and the command line
- ``xtremex.tasks``: task kinds, the catalogue of tasks, data sources, metrics
- ``xtremex.models``: heads, the catalogue of backbones and pairs, grounding
- ``xtremex.adapters``: one protocol, one file per library
- ``xtremex.analysis``: outcomes -> effects -> tests -> tables, figures, report (never torch)
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("xtremex")
except PackageNotFoundError:  # a clone that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
