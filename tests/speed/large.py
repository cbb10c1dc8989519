"""Memory and throughput of XLM-R Large's shapes, random weights, through `huggingface` and `open_clip` in bf16.

    python tests/speed/large.py                      # on a GPU
    python tests/speed/large.py --layers 2 --device cpu --repeats 2 --batch 4     # a trial of this program

For each adapter: seconds to load a checkpoint folder, then the median seconds of a training step (forward, backward, AdamW
with float32 weights under bf16 autocast, as the engine trains) and of inference, tokens a second, and peak memory: of the
device, or on a CPU of the process so far. Both read one set of weights: the transformers folder is the text tower of the
open_clip folder, so that times pair up.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from xtremex.adapters import _compat

_compat.prepare()

import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402

from xtremex.adapters import adapters  # noqa: E402
from xtremex.models.heads import SentenceHead, sentence_vectors  # noqa: E402

VISION = {"image_size": 32, "patch_size": 16, "layers": 1, "width": 32, "head_width": 16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=20)
    asked = parser.parse_args()
    name = torch.cuda.get_device_name() if asked.device == "cuda" else "CPU, one thread"
    torch.set_num_threads(1 if asked.device == "cpu" else torch.get_num_threads())
    print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"XLM-R Large with {asked.layers} layers, {asked.batch} x {asked.length} tokens, bf16 autocast\n")
    print(
        "| adapter | load, s | training step, s | tokens/s | peak, GB | inference, s | tokens/s | peak, GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folders = _write(Path(place), asked.layers)
        for adapter, folder in folders.items():
            print(f"| `{adapter}` | " + " | ".join(_measure(adapter, folder, asked)) + " |", flush=True)


def _write(place: Path, layers: int) -> dict[str, Path]:
    """One network as a transformers folder and as the text tower of an open_clip folder."""
    config = transformers.XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    network = transformers.XLMRobertaModel(config, add_pooling_layer=False)
    text, clip = place / "text", place / "clip"
    tokenizer = _tokenizer()
    network.save_pretrained(text)
    tokenizer.save_pretrained(text)
    clip.mkdir()
    tokenizer.save_pretrained(clip)
    config.save_pretrained(clip)
    weights = {f"text.transformer.{k}": v.contiguous() for k, v in network.state_dict().items()}
    weights["text.proj.weight"] = torch.randn(1024, 1024)
    save_file(weights, clip / "open_clip_model.safetensors")
    text_cfg = {
        "hf_model_name": "xlm-roberta-large",
        "hf_tokenizer_name": "xlm-roberta-large",
        "hf_proj_type": "linear",
    }
    model_cfg = {"embed_dim": 1024, "vision_cfg": VISION, "text_cfg": text_cfg, "custom_text": True}
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg}))
    return {"huggingface": text, "open_clip": clip}


def _tokenizer() -> Any:
    """A fast tokenizer of bytes with XLM-R's special tokens: only ids are needed here, which are drawn."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    tokenizer = Tokenizer(models.BPE({**specials, **{b: 4 + i for i, b in enumerate(alphabet)}}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names)


def _measure(adapter: str, folder: Path, asked: argparse.Namespace) -> list[str]:
    device, tokens = asked.device, asked.batch * asked.length
    started = time.perf_counter()
    encoder = adapters.get(adapter).load(str(folder)).to(device)
    _wait(device)
    loaded = time.perf_counter() - started
    head = SentenceHead(encoder.info, 3).to(device)
    ids = torch.randint(4, 250_000, (asked.batch, asked.length), device=device)
    mask = torch.ones_like(ids)

    def infer() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            encoder(ids, mask)

    told = [f"{loaded:.1f}"]
    encoder.train()
    told += _timed(_step(encoder, head, ids, mask), device, asked.repeats, tokens)
    encoder.zero_grad(set_to_none=True)
    encoder.eval()
    told += _timed(infer, device, asked.repeats, tokens)
    return told


def _step(encoder: Any, head: SentenceHead, ids: torch.Tensor, mask: torch.Tensor) -> Callable[[], None]:
    """One optimizer step; the optimizer's memory goes with the function."""
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-5)
    labels = torch.arange(len(ids), device=ids.device) % 3

    def step() -> None:
        with torch.autocast(ids.device.type, torch.bfloat16):
            scores = head(sentence_vectors(encoder(ids, mask), encoder.info))
        torch.nn.functional.cross_entropy(scores, labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _timed(action: Callable[[], None], device: str, repeats: int, tokens: int) -> list[str]:
    """Median seconds after one untimed pass, tokens a second, and the peak of memory in GB."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    action()
    times = []
    for _ in range(repeats):
        _wait(device)
        started = time.perf_counter()
        action()
        _wait(device)
        times.append(time.perf_counter() - started)
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    median = statistics.median(times)
    return [f"{median:.3f}", f"{tokens / median:,.0f}", f"{peak / 1e9:.1f}"]


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
