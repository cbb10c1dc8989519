"""The contract kit: what every task of the benchmark relies on, checked on one encoder.

``xtremex check NAME`` prints its results. A third party runs the same checks in its own tests::

    from xtremex.adapters.contract import assert_contract

    def test_my_adapter():
        assert_contract(MyEncoder.load("my-checkpoint"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ...errors import unknown
from ..base import EncoderInfo
from ..describe import quiet
from . import copies, outputs, tokens, training
from .bench import Bench, Failed, Skipped, expect
from .texts import SCRIPTS, SENTENCES

__all__ = ["CHECKS", "SCRIPTS", "SENTENCES", "CheckResult", "assert_contract", "check"]


@dataclass(frozen=True)
class CheckResult:
    name: str
    status: Literal["passed", "failed", "skipped"]
    detail: str
    """What was found: how far, how many, or why not."""
    example: str = ""
    """Of a failed check, the shortest text found that shows the fault; empty where no text does."""


def check(
    encoder: Any, names: Iterable[str] | None = None, *, again: Callable[[], Any] | None = None
) -> list[CheckResult]:
    """Run the checks (or those of ``names``, keys of ``CHECKS``) on any adapter's instance and leave it as it was.

    Args:
        encoder: what an adapter's ``load`` returned, on any device: inputs and copies are put on it.
        names: keys of ``CHECKS``; None runs all of them.
        again: loads the same checkpoint once more. With it, weights that the first load left random are found; without
            it, only weights that a load of the *saved* encoder leaves random. What is drawn from a fixed seed instead of
            being read is found for the saved encoder alone, whose file can be changed.

    All of them cost about a hundred forward passes of one short text, one backward pass, eleven copies written to the
    temporary directory one after the other and read again, and one new process (``pickling``: the seconds that importing
    torch and transformers takes). An exception of the adapter's own code is a failed check, not an exception of this
    function.

    Raises:
        UnknownName: ``names`` holds something that is no check.
    """
    chosen = list(CHECKS if names is None else names)
    for name in chosen:
        if name not in CHECKS:
            raise unknown("check", name, CHECKS)
    if not isinstance(encoder, nn.Module):
        return [CheckResult("protocol", "failed", f"{type(encoder).__name__} is not a torch.nn.Module")]
    mode = encoder.training
    gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    encoder.eval()
    bench = Bench(encoder, again)
    results = []
    try:
        # quiet: what is refused on purpose, and texts longer than the model's limit, would be remarked upon
        with torch.random.fork_rng(devices=bench.accelerators), quiet():
            for name in chosen:
                results.append(_run(name, bench))
                if name == "protocol" and results[-1].status == "failed":
                    break  # nothing else can be tried
    finally:
        bench.close()
        encoder.train(mode)
        for name, parameter in encoder.named_parameters():
            parameter.grad = gradients[name]
    return results


def assert_contract(
    encoder: Any, names: Iterable[str] | None = None, *, again: Callable[[], Any] | None = None
) -> None:
    """``check`` for a test: raises AssertionError with every failed check in its message."""
    failed = [result for result in check(encoder, names, again=again) if result.status == "failed"]
    if failed:
        lines = (
            f"{result.name}: {result.detail}" + (f" (text: {result.example!r})" if result.example else "")
            for result in failed
        )
        raise AssertionError("\n".join(lines))


def _run(name: str, bench: Bench) -> CheckResult:
    try:
        return CheckResult(name, "passed", CHECKS[name](bench))
    except Skipped as reason:
        return CheckResult(name, "skipped", str(reason))
    except Failed as reason:
        return CheckResult(name, "failed", str(reason), reason.example)
    except Exception as error:  # the code under test is a stranger's: whatever it raises is the finding
        return CheckResult(name, "failed", f"{type(error).__name__}: {error}")


def _protocol(bench: Bench) -> str:
    encoder = bench.encoder
    for member in ("info", "tokenizer", "save", "load"):
        expect(hasattr(encoder, member), f"no member `{member}`")
    expect(isinstance(encoder.info, EncoderInfo), "`info` is not an EncoderInfo")
    expect(getattr(encoder.tokenizer, "is_fast", False), "`tokenizer` is not a fast transformers tokenizer")
    expect(encoder.tokenizer.pad_token_id is not None, "the tokenizer has no padding token")
    expect(getattr(type(encoder).load, "__self__", None) is type(encoder), "`load` is not a classmethod")
    return f"{type(encoder).__name__}, {encoder.info.family}"


CHECKS: dict[str, Callable[[Bench], str]] = {
    "protocol": _protocol,
    "states": outputs.states,
    "final norm": outputs.final_norm,
    "length": outputs.length,
    "padding": outputs.padding,
    "batch": outputs.batch,
    "order": outputs.order,
    "determinism": training.determinism,
    "precision": outputs.precision,
    "causality": outputs.causality,
    "gradient": training.gradient,
    "offsets": tokens.offsets,
    "words": tokens.words,
    "pairs": tokens.pairs,
    "language code": tokens.language_code,
    "save and load": copies.save_and_load,
    "random weights": copies.random_weights,
    "weights": copies.weights,
    "pickling": copies.pickling,
    "network": copies.network,
}
"""Name -> check, in the order in which ``check`` runs and reports them."""
