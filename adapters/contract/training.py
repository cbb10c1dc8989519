"""Checks of what training stands on: what is random and what is not, and where a gradient arrives."""

from __future__ import annotations

import torch

from ..base import Encoded
from .bench import Bench, expect, outputs
from .graph import weights_behind
from .texts import SENTENCES

__all__ = ["determinism", "gradient"]


def determinism(bench: Bench) -> str:
    ids, mask = bench.encode(SENTENCES)
    before = bench.generators()
    first, second = bench.forward(ids, mask), bench.forward(ids, mask)
    differ = _differ(first, second)
    expect(not differ, f"two passes in eval mode differ in {', '.join(differ)}")
    unmoved = all(torch.equal(a, b) for a, b in zip(before, bench.generators(), strict=True))
    expect(unmoved, "a pass in eval mode draws random numbers")
    return f"two passes identical; in training {_training(bench)}"


def _differ(one: Encoded, other: Encoded) -> list[str]:
    """Names of what differs; layers that training drops at random leave other states."""
    ours, theirs = outputs(one), outputs(other)
    return [
        name
        for name in {**ours, **theirs}
        if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name])
    ]


def _training(bench: Bench) -> str:
    """A pass leaves the mode as it is, and is random where ``info.dropout`` says so, and only there."""
    encoder, dropout = bench.encoder, bench.encoder.info.dropout
    expect(0 <= dropout < 1, f"info.dropout = {dropout}, which is no probability below 1")
    ids, mask = bench.encode(SENTENCES[:2])
    # batch norms count the batches that they see in training
    counted = [(buffer, buffer.clone()) for buffer in encoder.buffers()]
    encoder.train()
    try:
        before = [module.training for module in encoder.modules()]
        differ = _differ(bench.forward(ids, mask), bench.forward(ids, mask))
        expect(
            before == [module.training for module in encoder.modules()],
            "forward changes the mode: what `train()` set is not what stands after a pass",
        )
    finally:
        encoder.eval()
        for buffer, value in counted:
            buffer.copy_(value)
    if dropout:
        expect(
            bool(differ), f"info.dropout = {dropout}, but two passes in training mode are equal to the bit"
        )
        return f"random, as info.dropout = {dropout} says"
    expect(
        not differ,
        f"info.dropout = 0, but two passes in training mode differ in {', '.join(differ)}",
    )
    return "too, as info.dropout = 0 says"


def gradient(bench: Bench) -> str:
    encoder = bench.encoder
    encoder.zero_grad(set_to_none=True)
    ids, mask = bench.encode(SENTENCES)
    out = encoder(ids, mask)
    generator = torch.Generator().manual_seed(0)
    # random weights: a plain sum over a normed vector has gradient zero
    vectors = [out.hidden_states[-1] * mask.unsqueeze(-1), out.pooled]
    vectors += [] if out.projected is None else [out.projected]
    loss = torch.stack(
        [(x * torch.randn(x.shape, generator=generator).to(x.device)).sum() for x in vectors]
    ).sum()
    expect(loss.requires_grad, "the output has no gradient at all")
    _each_output(bench, out)
    loss.backward()
    trained = {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}
    unreached = [name for name, grad in trained.items() if grad is None or not bool(grad.any())]
    encoder.zero_grad(set_to_none=True)
    expect(not unreached, f"no gradient in {len(unreached)} trainable weights: {', '.join(unreached[:5])}")
    return f"{len(trained)} trainable weights reached"


def _each_output(bench: Bench, out: Encoded) -> None:
    """Each state leads back to all weights that the state below it leads to, and each vector to those of the embeddings.

    A task may train on any one of them: the last state hides what a detached one below it, or a detached vector, lacks.
    """
    behind = {name: weights_behind(tensor, bench.encoder) for name, tensor in outputs(out).items()}
    frozen = not all(weight.requires_grad for weight in bench.encoder.parameters())
    below = "hidden_states[0]"
    for name, reached in behind.items():
        # embeddings may be computed without a weight, and a frozen weight is behind no output
        expect(
            bool(reached) or frozen or name == "hidden_states[0]",
            f"{name} leads back to no weight: a task that trains on it trains nothing",
        )
        if not name.startswith("hidden_states"):
            below = "hidden_states[0]"
        lost = sorted(behind[below] - reached)
        expect(
            not lost,
            f"{name} leads back to fewer weights than {below}: {', '.join(lost[:5])} "
            "(detached, or the states are out of order)",
        )
        below = name
