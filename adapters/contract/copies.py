"""Checks of second copies of an encoder: saved and loaded, loaded twice, tampered with, pickled, without a network."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import ArtifactError
from . import worker
from .bench import TOLERANCE, Bench, Failed, difference, encode, expect, outputs
from .texts import SENTENCES

__all__ = ["network", "pickling", "random_weights", "save_and_load", "weights"]

PATIENCE = 180
"""Seconds until a fresh process that does not answer counts as failed; importing torch and transformers takes a few."""
KINDS = 6
"""How many weights are taken out, one at a time: each costs a written copy and an attempt to load it."""
HOSTLESS = (getattr(socket, "AF_UNIX", None),)
"""Families of sockets that leave the machine never."""


def save_and_load(bench: Bench) -> str:
    _same(bench, bench.reloaded, "after save and load")
    return f"{len(bench.encoder.state_dict())} tensors, info, ids and output identical"


def _same(bench: Bench, copy: Any, when: str) -> None:
    encoder = bench.encoder
    _same_tensors(encoder, copy, when)
    expect(encoder.info == copy.info, f"info changed {when}: {copy.info}")
    ids, mask = bench.encode(SENTENCES)
    expect(torch.equal(ids, encode(copy, SENTENCES)[0]), f"the tokenizer gives other ids {when}")
    with torch.no_grad():
        theirs = outputs(copy(ids, mask))
    ours = outputs(bench.forward(ids, mask))
    differ = [name for name in {**ours, **theirs} if not _equal(ours.get(name), theirs.get(name))]
    expect(not differ, f"the output changed {when}: {', '.join(differ)}")


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)


def _same_tensors(encoder: Any, copy: Any, when: str) -> None:
    ours, theirs = encoder.state_dict(), copy.state_dict()
    expect(ours.keys() == theirs.keys(), f"other tensors {when}: {sorted(ours.keys() ^ theirs.keys())[:5]}")
    changed = [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]
    expect(not changed, f"{len(changed)} tensors changed {when}: {', '.join(changed[:5])}")


def random_weights(bench: Bench) -> str:
    """Weights that a checkpoint lacks are drawn anew by each load: two loads, torch's generator in different places."""
    first = bench.encoder if bench.again else bench.reloaded
    second = bench.loaded_again()
    ours, theirs = first.state_dict(), second.state_dict()
    differ = [
        name for name, tensor in ours.items() if name not in theirs or not torch.equal(tensor, theirs[name])
    ]
    expect(
        not differ,
        f"two loads of the same checkpoint differ in {len(differ)} tensors ({', '.join(differ[:5])}): they are drawn, "
        "not read",
    )
    expect(
        not bench.reseeded,
        "load sets the seed of torch's generator, and with it all that its caller draws later; a seed belongs into "
        "torch.random.fork_rng",
    )
    ignored = _ignored(bench)
    expect(
        not ignored,
        f"{len(ignored)} weights ({', '.join(ignored[:5])}) stay the same when every number of the saved file is "
        "changed: load makes them up",
    )
    return f"{len(ours)} tensors the same in two loads, and read from the file"


def _ignored(bench: Bench) -> list[str]:
    """Trainable weights that a load does not take from the files: a draw from a fixed seed is the same in every load."""
    from safetensors.torch import load_file, save_file

    files = sorted(bench.saved.rglob("*.safetensors"))
    originals = [path.rename(path.with_suffix(".original")) for path in files]
    try:
        for path, original in zip(files, originals, strict=True):
            changed = {
                name: tensor + 0.5 if tensor.is_floating_point() else tensor
                for name, tensor in load_file(original).items()
            }
            save_file(changed, path, metadata={"format": "pt"})
        copy = bench.load(1)
    except ArtifactError:
        return []  # a digest of the file, for instance: it was read
    finally:
        for path, original in zip(files, originals, strict=True):
            original.replace(path)
    read = dict(copy.named_parameters())
    return [
        name
        for name, weight in bench.reloaded.named_parameters()
        if weight.requires_grad and name in read and torch.equal(weight, read[name])
    ]


def weights(bench: Bench) -> str:
    from safetensors.torch import load_file, save_file

    files = sorted(bench.saved.rglob("*.safetensors"))
    expect(bool(files), "save wrote no safetensors file")
    target = max(files, key=lambda path: path.stat().st_size)
    whole = load_file(target)
    taken = _of_every_kind(sorted(whole))
    trials: list[tuple[str, dict[str, Tensor]]] = [
        (f"a missing weight ({name})", {key: tensor for key, tensor in whole.items() if key != name})
        for name in taken
    ]
    longer = torch.cat([whole[taken[0]], whole[taken[0]]])
    trials.append((f"a weight of another shape ({taken[0]})", {**whole, taken[0]: longer}))
    trials.append(("an unexpected weight", {**whole, "xtremex_unexpected.weight": torch.ones(2)}))
    original = target.rename(target.with_suffix(".original"))
    try:
        for what, state in trials:
            save_file(state, target, metadata={"format": "pt"})
            try:
                type(bench.encoder).load(str(bench.saved))
            except ArtifactError:
                continue
            missing = next(iter(whole.keys() - state.keys()), None)
            if missing is None or not _derived(bench, target, whole, missing):
                raise Failed(f"load accepts {what}; it must raise ArtifactError")
    finally:
        original.replace(target)
    return f"refused: {len(taken)} missing weights of different kinds, one of another shape, one unexpected"


def _of_every_kind(names: list[str]) -> list[str]:
    """Up to ``KINDS`` of the sorted names: a norm, a bias, one from the middle, then one of each leading module."""
    if not names:
        raise Failed("save wrote no weights")
    norms = [name for name in names if re.search(r"norm|ln_", name, re.IGNORECASE)]
    biases = [name for name in names if name.endswith("bias")]
    prefix = os.path.commonprefix(names)
    leading = {name.removeprefix(prefix).partition(".")[0]: name for name in names}
    chosen = [*norms[-1:], *biases[:1], names[len(names) // 2], *leading.values(), names[0], names[-1]]
    return list(dict.fromkeys(chosen))[:KINDS]


def _derived(bench: Bench, target: Path, whole: dict[str, Tensor], missing: str) -> bool:
    """Whether a load without ``missing`` finds its value elsewhere: it may be tied to a tensor that is there.

    All values are changed first, so that a value which the adapter happens to know is not taken for one it read.
    """
    from safetensors.torch import save_file

    changed = {key: tensor * 1.25 if tensor.is_floating_point() else tensor for key, tensor in whole.items()}
    states = []
    for state in (changed, {key: tensor for key, tensor in changed.items() if key != missing}):
        save_file(state, target, metadata={"format": "pt"})
        states.append(type(bench.encoder).load(str(bench.saved)).state_dict())
    return all(_equal(tensor, states[1].get(name)) for name, tensor in states[0].items())


def pickling(bench: Bench) -> str:
    pickled = pickle.dumps(bench.encoder)
    _same(bench, pickle.loads(pickled), "after pickling")
    ids, mask = bench.encode(SENTENCES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "encoder.pickle").write_bytes(pickled)
        del pickled  # a large encoder is there three times by now
        torch.save({"ids": ids, "mask": mask}, folder / "batch.pt")
        shim = "torchvision" in sys.modules
        process = _processes().Process(
            target=worker.run, args=(name, torch.get_num_threads(), shim), daemon=True
        )
        with _without_main(bench.encoder):
            process.start()
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            raise Failed(f"a fresh process has not answered in {PATIENCE} s")
        if (folder / "error.txt").is_file():
            raise Failed(f"in a fresh process: {(folder / 'error.txt').read_text(encoding='utf-8')}")
        expect((folder / "outputs.pt").is_file(), f"a fresh process died with exit code {process.exitcode}")
        theirs = torch.load(folder / "outputs.pt", weights_only=True)
    for key, ours in outputs(bench.forward(ids, mask)).items():
        where = mask.bool() if ours.dim() == 3 else slice(None)
        found = difference(ours[where], theirs[key].to(bench.device)[where])
        expect(found <= TOLERANCE, f"{key} changes by {found:.1e} in a fresh process")
    return "identical here, and the same output in a fresh process"


def _processes() -> Any:
    """Where fresh processes come from: one that has imported the libraries and nothing else, forked for each of them.

    What they know of the caller is what a spawned process knows, its path and arguments; but the seconds of importing
    torch and transformers are spent once, not by every check.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.preload"])
    return context


@contextmanager
def _without_main(encoder: Any) -> Iterator[None]:
    """Let the fresh process not run the caller's script once more, unless the encoder's code is in that script.

    A script without the guard ``if __name__ == "__main__"`` would start its own checks there, and one typed into an
    interpreter has no file to run.
    """
    main = sys.modules["__main__"]
    if any(base.__module__ == "__main__" for module in encoder.modules() for base in type(module).__mro__):
        yield
        return
    hidden = {name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__}
    main.__dict__["__spec__"] = None
    try:
        yield
    finally:
        del main.__dict__["__spec__"]
        main.__dict__.update(hidden)


def network(bench: Bench) -> str:
    """Load from the saved folder and run once, while every attempt to reach another machine is refused and noted.

    Only what goes through Python's ``socket`` is seen.
    """
    folder = str(bench.saved)
    ids, mask = bench.encode(SENTENCES[:2])
    for what in ("load of a local folder", "a forward pass"):
        error: Exception | None = None
        with _no_network() as asked:
            try:
                if what == "a forward pass":
                    bench.forward(ids, mask)
                else:
                    type(bench.encoder).load(folder)
            except Exception as raised:
                error = raised
        expect(not asked, f"{what} asks the network for {asked[0] if asked else ''}")
        if error is not None:
            raise error
    return "neither load nor a forward pass asks for it"


@contextmanager
def _no_network() -> Iterator[list[str]]:
    asked: list[str] = []

    def refused(address: Any) -> OSError:
        host = address[0] if isinstance(address, tuple) else address
        asked.append(host.decode(errors="replace") if isinstance(host, bytes) else str(host))
        return OSError("the contract kit allows no network here")

    held = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}
    lookups = {name: getattr(socket, name) for name in ("getaddrinfo", "gethostbyname")}

    def guarded(original: Any) -> Any:
        def method(self: Any, *arguments: Any) -> Any:
            if self.family in HOSTLESS:
                return original(self, *arguments)
            raise refused(arguments[-1])

        return method

    def lookup(host: Any, *_: Any, **__: Any) -> Any:
        raise refused((host,))

    own = {name: socket.socket.__dict__.get(name) for name in held}
    for name, original in held.items():
        setattr(socket.socket, name, guarded(original))
    for name in lookups:
        setattr(socket, name, lookup)
    try:
        yield asked
    finally:
        for name, original in lookups.items():
            setattr(socket, name, original)
        for name, original in own.items():
            if original is None:
                delattr(socket.socket, name)  # inherited from the C class
            else:
                setattr(socket.socket, name, original)
