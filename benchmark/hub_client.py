"""All calls that reach the Hugging Face hub: commits, lists of files, downloads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..adapters.layouts import LAYOUTS, PICKED, SKIPPED, readable, unpickled, wanted
from ..errors import DataError, MissingDependency
from ..tasks.hub import CONVERTED, repository_files
from .convert import convert

__all__ = ["HubClient", "cached_model", "reason"]


class HubClient:
    """The hub through its own client. Files go to the hub's cache (``HF_HOME``); what is there is not fetched again."""

    def __init__(self) -> None:
        try:
            from huggingface_hub import HfApi
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"`{error.name}`, the client of the hub, is not installed", 'pip install "xtremex[train]"'
            ) from None
        self._api = HfApi()

    def dataset_commit(self, repo: str, revision: str) -> str:
        return str(self._api.dataset_info(repo, revision=revision).sha)

    def model_commit(self, repo: str, revision: str) -> str:
        return str(self._api.model_info(repo, revision=revision).sha)

    def dataset_files(self, repo: str, config: str, commit: str, revision: str) -> dict[str, tuple[str, ...]]:
        """Split -> paths in the repository. The conversion branch is read by its form ``config/split/NNNN.parquet``."""
        if revision != CONVERTED:
            return repository_files(repo, config, commit=commit)
        found: dict[str, list[str]] = {}
        listed = self._api.list_repo_files(repo, revision=commit, repo_type="dataset")
        folders = {
            name.split("/")[0] for name in listed if name.count("/") == 2 and name.endswith(".parquet")
        }
        chosen = config or ("default" if "default" in folders else min(folders, default=""))
        for name in sorted(listed):
            folder, _, rest = name.partition("/")
            if folder == chosen and rest.endswith(".parquet") and rest.count("/") == 1:
                found.setdefault(rest.split("/")[0], []).append(name)
        if not found or (not config and len(folders) > 1 and "default" not in folders):
            raise DataError(
                f"{repo} ({revision}): no configuration `{config or 'default'}`",
                f"known: {', '.join(sorted(folders)) or 'none'}",
            )
        return {split: tuple(names) for split, names in found.items()}

    def download(self, repo: str, name: str, commit: str) -> Path:
        """A file of a data set in the cache; what is there is not fetched again, and an interrupted download goes on."""
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repo, name, revision=commit, repo_type="dataset"))

    def download_model(
        self,
        repo: str,
        commit: str,
        adapter: str = "huggingface",
        options: Mapping[str, Any] | None = None,
        *,
        converting: bool = False,
    ) -> Path:
        """Weights, tokenizer and configuration of a model, as far as ``adapter`` reads them; the folder in the cache.

        Args:
            adapter: name of the adapter, which decides what the weights are called.
            options: the backbone's; ``trust_remote_code`` brings the repository's Python files too.
            converting: where weights are only pickled, download them and write safetensors beside them (``convert``). Done
                once: what was converted is not fetched again.

        Raises:
            DataError: no weights that the adapter reads, and none that may be converted.
        """
        names = self._api.list_repo_files(repo, revision=commit)
        found = unpickled(adapter, names)
        if not readable(adapter, {*names, *found.values()}):
            needed = " or ".join(LAYOUTS[adapter].weights) if adapter in LAYOUTS else "safetensors"
            raise DataError(
                f"{repo} at {commit[:12]} holds no {needed}, which the adapter `{adapter}` reads",
                "take another revision, or another adapter",
            )
        before = cached_model(repo, commit)
        left = {
            name: target
            for name, target in found.items()
            if before is None or not (before / target).is_file()
        }
        if left and not converting:
            raise DataError(
                f"{repo} at {commit[:12]} holds only pickled weights ({', '.join(left)}), which no adapter reads",
                "`xtremex fetch SUITE --convert` makes safetensors of them, reading nothing but tensors; or take a revision "
                "that has some",
            )
        folder = self._snapshot(repo, commit, *wanted(adapter, options or {}, names), *left)
        for name, target in left.items():
            convert(folder / name, folder / target)
            # the hub's client remembers what a repository does not have, and would not look again
            (folder.parents[1] / ".no_exist" / commit / target).unlink(missing_ok=True)
        return folder

    def _snapshot(self, repo: str, commit: str, *weights: str) -> Path:
        from huggingface_hub import snapshot_download

        picked = [*PICKED, *weights]
        return Path(
            snapshot_download(repo, revision=commit, allow_patterns=picked, ignore_patterns=list(SKIPPED))
        )


def cached_model(repo: str, commit: str) -> Path | None:
    """The folder of a model at a commit in the hub's cache, complete or not; None where nothing was fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # no pattern: what was left out by design would count as missing
        return Path(snapshot_download(repo, revision=commit, local_files_only=True, allow_patterns=[]))
    except LocalEntryNotFoundError:
        return None


def reason(error: Exception) -> str:
    """Why the hub refused, in a few words: gated, absent, no network, or what the client says."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "gated: accept its terms on the hub, then `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(error.response, "status_code", "?")
        return f"the hub answered {status}"
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.split(".")[0] in (
        "httpx",
        "httpcore",
    ):
        return f"no connection ({type(error).__name__})"
    line = str(error).strip().split("\n")[0]
    return line or type(error).__name__
