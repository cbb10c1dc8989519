"""Checks of what a forward pass gives: states, length, padding, batches, causality, norm, precision."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .bench import TOLERANCE, Bench, Failed, Skipped, compare, difference, every, expect, outputs
from .graph import nodes
from .texts import PAIR, SENTENCES

__all__ = [
    "batch",
    "causality",
    "final_norm",
    "length",
    "order",
    "padding",
    "precision",
    "states",
]

LONGEST = 1024
"""Longest input tried, whatever an encoder accepts: the check must stay cheap."""
COSINE = 0.99
"""Smallest cosine between float32 and bfloat16 autocast. Real encoders lie far above it (multilingual-e5-small
0.99998, shared/reference/encoders.md 5.7); one that loses its precision in bfloat16 lies far below."""


def states(bench: Bench) -> str:
    info = bench.encoder.info
    ids, mask = bench.encode(SENTENCES)
    given = ids.clone(), mask.clone()
    out = bench.forward(ids, mask)
    expect(torch.equal(ids, given[0]) and torch.equal(mask, given[1]), "forward changes its own input")
    expect(
        len(out.hidden_states) == info.layers + 1,
        f"{len(out.hidden_states)} states, info.layers = {info.layers}",
    )
    expected = (*ids.shape, info.hidden_size)
    for k, layer in enumerate(out.hidden_states):
        shape = tuple(layer.shape)
        expect(shape == expected, f"hidden_states[{k}] has shape {shape}, not {expected}")
        expect(layer.is_floating_point(), f"hidden_states[{k}] has dtype {layer.dtype}")
        expect(bool(layer[mask.bool()].isfinite().all()), f"hidden_states[{k}] is not finite")
    size = (len(ids), info.hidden_size)
    expect(tuple(out.pooled.shape) == size, f"pooled has shape {tuple(out.pooled.shape)}, not {size}")
    expect(tuple(out.mask.shape) == tuple(ids.shape), f"mask has shape {tuple(out.mask.shape)}")
    expect(out.mask.dtype == torch.int64, f"mask has dtype {out.mask.dtype}, not int64")
    expect(torch.equal(out.mask, mask), "mask is not the attention_mask that forward was given")
    _distinct([layer[mask.bool()] for layer in out.hidden_states])
    if out.projected is not None:
        expect(out.projected.dim() == 2 and len(out.projected) == len(ids), "projected is not (B, D)")
    norms = out.pooled.norm(dim=-1)
    unit = bool((norms - 1).abs().max() < 1e-3)
    if info.pooled_unit_norm:
        expect(unit, "info.pooled_unit_norm, but pooled has not unit length")
    else:
        # heads put in front of unit vectors what spreads them, and must know
        expect(not unit, "pooled has unit length; info.pooled_unit_norm must say so")
    return f"{len(out.hidden_states)} x {expected[1:]}, pooled length {norms.min():.2f} to {norms.max():.2f}"


def _distinct(layers: list[Tensor]) -> None:
    """Every layer does something, so two equal states are one state given twice, in the place of another."""
    for k, layer in enumerate(layers):
        for j in range(k):
            expect(
                not torch.equal(layers[j], layer), f"hidden_states[{j}] and hidden_states[{k}] are the same"
            )


def length(bench: Bench) -> str:
    info = bench.encoder.info
    expect(info.max_length_trained <= info.max_length, "max_length_trained exceeds max_length")
    if info.pad_to:
        expect(
            info.pad_to == info.max_length,
            f"info.pad_to = {info.pad_to} and info.max_length = {info.max_length}: an input of one fixed length has "
            "no other",
        )
    limit = min(info.max_length, LONGEST)
    for times in (1 + limit // len(SENTENCES), limit):  # mostly a few dozen are enough, and quicker
        ids, mask = bench.encode([" ".join(SENTENCES * times)], limit)
        if mask.all():
            break
    expect(ids.shape[1] == limit, f"an endless text was cut to {ids.shape[1]} tokens, not to {limit}")
    out = bench.forward(ids, mask)
    expect(bool(out.pooled.isfinite().all()), f"pooled is not finite at {limit} tokens")
    _end_is_read(bench, ids, mask, out.pooled)
    beyond = (
        f" of info.max_length = {info.max_length}: longer ones are not tried"
        if limit < info.max_length
        else ""
    )
    return f"{limit} tokens{beyond}"


def _end_is_read(bench: Bench, ids: Tensor, mask: Tensor, pooled: Tensor) -> None:
    """Whether the last word of the longest input counts: an encoder may accept more than it reads."""
    tokenizer = bench.encoder.tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    text = [(place, number) for place, number in enumerate(ids[0].tolist()) if number not in special]
    last = text[-1]
    other = next((number for _, number in text if number != last[1]), None)
    if other is None:
        return  # so few positions that nothing can be changed
    changed = ids.clone()
    changed[0, last[0]] = other
    expect(
        not torch.equal(pooled, bench.forward(changed, mask).pooled),
        f"{ids.shape[1]} tokens are accepted and not all read: another token at place {last[0]} changes nothing in pooled",
    )


def padding(bench: Bench) -> str:
    info = bench.encoder.info
    if info.pad_to:
        return _fixed_padding(bench)
    count = min(7, info.max_length // 2)

    def alone_and_padded(text: str) -> float:
        ids, mask = bench.encode([text], limit=info.max_length - count)  # both must fit
        # on the right, as tasks pad
        padded = F.pad(ids, (0, count), value=bench.encoder.tokenizer.pad_token_id), F.pad(mask, (0, count))
        what = f"with {count} tokens of padding"
        return compare(what, bench.forward(ids, mask), bench.forward(*padded), (0, 0), ids.shape[1])

    if not info.attends_padding:
        return f"largest difference {max(every(alone_and_padded)):.0e}"
    for text in SENTENCES:
        try:
            alone_and_padded(text)
        except Failed:
            return "output changes with padding, as info.attends_padding says"
    raise Failed("info.attends_padding, but padding changes nothing: it is declared in vain")


def _fixed_padding(bench: Bench) -> str:
    """An input of one length has no shorter form, so what stands in the padding and what the mask says are changed."""
    info = bench.encoder.info

    def masked_and_not(text: str) -> tuple[float, float]:
        ids, mask = bench.encode([text])
        tokens = int(mask.sum())
        if tokens == ids.shape[1]:
            return 0.0, 0.0
        out = bench.forward(ids, mask)
        unmasked = bench.forward(ids, torch.ones_like(mask))
        seen = max(
            difference(a[0, :tokens], b[0, :tokens])
            for a, b in zip(out.hidden_states, unmasked.hidden_states, strict=True)
        )
        if info.attends_padding:
            return seen, 0.0
        other = torch.where(mask.bool(), ids, ids[0, tokens // 2])
        what = "with other ids in the padding"
        return seen, compare(what, out, bench.forward(other, mask), (0, 0), tokens)

    # some encoders have so few positions that only a word leaves room for padding
    found = every(masked_and_not, (*SENTENCES, *PAIR, "A"))
    seen, worst = (max(values) for values in zip(*found, strict=True))
    if info.attends_padding:
        expect(
            seen <= TOLERANCE,
            f"info.attends_padding, but the mask decides what is read: without it states change by {seen:.1e}; it is "
            "declared in vain",
        )
        return f"padding to {info.pad_to} is read whatever the mask says, as info.attends_padding says"
    if not info.causal:
        expect(
            seen > TOLERANCE,
            "the mask changes nothing, so padding is read like text; info.attends_padding must say so",
        )
    return f"largest difference {worst:.0e} with other ids in the padding to {info.pad_to}"


def batch(bench: Bench) -> str:
    others: dict[str, str] = dict(zip(SENTENCES, (*SENTENCES[1:], SENTENCES[0]), strict=True))

    def alone_and_together(text: str) -> float:
        ids, mask = bench.encode([text, others.get(text, SENTENCES[0])])
        # row 0 of both: whether a text's place matters is the check `order`
        alone, together = bench.forward(ids[:1], mask[:1]), bench.forward(ids, mask)
        return compare("beside another text", alone, together, (0, 0), int(mask[0].sum()))

    worst = max(every(alone_and_together))
    ids, mask = bench.encode(SENTENCES)
    what = f"in a batch of {len(SENTENCES)}"
    alone = bench.forward(ids[:1], mask[:1])
    worst = max(worst, compare(what, alone, bench.forward(ids, mask), (0, 0), int(mask[0].sum())))
    return f"largest difference {worst:.0e} over {len(SENTENCES)} sentences"


def order(bench: Bench) -> str:
    ids, mask = bench.encode(SENTENCES)
    straight = bench.forward(ids, mask)
    count = len(SENTENCES)
    worst = 0.0
    for places in (list(range(count))[::-1], [*range(1, count, 2), *range(0, count, 2)]):
        moved = bench.forward(ids[places], mask[places])
        for new, old in enumerate(places):
            try:
                what = f"when it moves from place {old} of its batch to {new}"
                worst = max(worst, compare(what, straight, moved, (old, new), int(mask[old].sum())))
            except Failed as reason:
                raise _shortest_order(bench) or Failed(str(reason), SENTENCES[old]) from None
    return f"largest difference {worst:.0e} in two other orders"


def _shortest_order(bench: Bench) -> Failed | None:
    """The same fault in a batch of two, where it shows there."""
    shortest = sorted(SENTENCES, key=len)[:4]
    for text in shortest:
        for other in shortest:
            ids, mask = bench.encode([text, other])
            first, second = bench.forward(ids, mask), bench.forward(ids.flip(0), mask.flip(0))
            try:
                compare("when it comes second in a batch of two", first, second, (0, 1), int(mask[0].sum()))
            except Failed as reason:
                return Failed(str(reason), text)
    return None


def causality(bench: Bench) -> str:
    info = bench.encoder.info
    ids, mask = bench.encode([SENTENCES[0]])
    last = int(mask.sum()) - 2  # before a closing special token
    changed = ids.clone()
    changed[0, last] = changed[0, 1]
    expect(bool((changed != ids).any()), "the first and last token of the probe are the same")
    before, after = (bench.forward(x, mask).hidden_states[-1][0, :last] for x in (ids, changed))
    looks_ahead = difference(before, after) > TOLERANCE
    expect(
        looks_ahead != info.causal,
        f"info.causal is {info.causal}, but a change at the end says otherwise",
    )
    return "causal" if info.causal else "states look ahead"


def final_norm(bench: Bench) -> str:
    """``hidden_states[-1]`` is what a norm gave, and every later norm of that shape reads just it (a pooling branch).

    Two rules, because the last norm called need not be the final one of the token states: AltCLIP norms the states of
    XLM-R once more, for the sentence vector alone.
    """
    ids, mask = bench.encode(SENTENCES)
    shape = (*ids.shape, bench.encoder.info.hidden_size)
    calls: list[tuple[str, Tensor, Tensor]] = []
    graph: list[tuple[Any, Any]] = []

    def listen(name: str):
        def heard(module: object, inputs: tuple, output: object) -> None:
            given = inputs[0] if inputs else None
            if isinstance(output, Tensor) and tuple(output.shape) == shape and isinstance(given, Tensor):
                calls.append((name, given.detach(), output.detach()))
                graph.append((given.grad_fn, output.grad_fn))

        return heard

    norms = [(name, m) for name, m in bench.encoder.named_modules() if "norm" in type(m).__name__.lower()]
    hooks = [module.register_forward_hook(listen(name)) for name, module in norms]
    try:
        # with gradients: torch's fused encoder layer, used without, calls no norm module
        given_last = bench.encoder(ids, mask).hidden_states[-1]
    finally:
        for hook in hooks:
            hook.remove()
    if not calls:
        raise Skipped("no normalisation module gives states of this shape")
    held, last = mask.bool(), given_last.detach()

    def same(tensor: Tensor) -> bool:
        return difference(last[held], tensor[held]) <= TOLERANCE

    matches = [k for k, (_, _, output) in enumerate(calls) if same(output)]
    last_norm = calls[-1][0]
    if not matches:
        before = next((name for name, given, _ in reversed(calls) if same(given)), None)
        expect(
            before is None,
            f"hidden_states[-1] is what goes into the final norm `{before}`, not what it gives",
        )
        before_norm, after_norm = graph[-1]
        if before_norm is not None and before_norm in nodes(given_last.grad_fn, stop=after_norm):
            raise Skipped(
                f"no norm at the end: what `{last_norm}` reads is added again behind it, as within a layer that norms first"
            )
        raise Failed(f"hidden_states[-1] is not what any norm gives, the last of which is `{last_norm}`")
    expect(
        all(same(given) for _, given, _ in calls[matches[-1] + 1 :]),
        f"hidden_states[-1] is what `{calls[matches[-1]][0]}` gives, but the tower goes on to `{last_norm}`",
    )
    return f"hidden_states[-1] is the output of `{calls[matches[-1]][0]}`"


def precision(bench: Bench) -> str:
    def exact_and_coarse(text: str) -> float:
        ids, mask = bench.encode([text])
        exact = outputs(bench.forward(ids, mask))
        with torch.autocast(bench.device.type, torch.bfloat16):
            coarse = outputs(bench.forward(ids, mask))
        tokens, worst = int(mask.sum()), 1.0
        for name, ours in exact.items():
            a, b = ours[0].float(), coarse[name][0].float()
            if a.dim() == 2:
                a, b = a[:tokens], b[:tokens]
            expect(bool(b.isfinite().all()), f"{name} is not finite in bfloat16")
            cosine = float(F.cosine_similarity(a, b, dim=-1).min())
            expect(
                cosine >= COSINE, f"{name} in bfloat16 has cosine {cosine:.3f} to float32 (needed: {COSINE})"
            )
            worst = min(worst, cosine)
        return worst

    return f"smallest cosine of bfloat16 to float32 {min(every(exact_and_coarse)):.5f}"
