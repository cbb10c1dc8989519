"""A correct encoder and copies of it that each break one promise, in a module that a fresh process can import."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Regex, normalizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from xtremex.adapters.base import Encoded

sys.path.insert(0, str(Path(__file__).parent / "packages" / "xtremex-tiny"))
from xtremex_tiny import TinyEncoder

FRAME = [("<s>", 1), ("</s>", 2)]


class Broken(TinyEncoder):
    """Correct as it is; ``make`` changes what it declares."""

    @classmethod
    def make(cls, length: int = 0, **info: Any) -> Any:
        """One with ``length`` positions, where given, that declares ``info``."""
        encoder = cls.load("seed-0")
        if length:
            fewer = {"max_length": length, "max_length_trained": length}
            encoder = cls(dataclasses.replace(encoder.info, **fewer)).eval()
        encoder.info = dataclasses.replace(encoder.info, **info)
        return encoder


class AttendsPadding(Broken):
    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, torch.ones_like(attention_mask))._replace(mask=attention_mask)


class PoolsPadding(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=out.hidden_states[-1].mean(1))


class ReadsItsNeighbours(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=out.pooled - out.pooled.mean(0) / 2)


class CountsItsRow(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=out.pooled + 0.01 * torch.arange(len(input_ids))[:, None])


class Random(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=out.pooled + torch.randn_like(out.pooled) * 1e-6)


class DrawsInVain(Broken):
    def forward(self, input_ids, attention_mask):
        torch.rand(1)
        return super().forward(input_ids, attention_mask)


class ForgetsAState(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(hidden_states=out.hidden_states[1:])


class GivesNan(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(hidden_states=(*out.hidden_states[:-1], out.hidden_states[-1] * float("nan")))


class Raises(Broken):
    def forward(self, input_ids, attention_mask):
        raise ZeroDivisionError("a bug of the adapter")


class UnusedWeight(Broken):
    def __init__(self, info):
        super().__init__(info)
        self.pooler = nn.Linear(4, 4)
        with torch.no_grad():
            for weight in self.pooler.parameters():
                weight.fill_(1.0)


class Detached(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return Encoded(tuple(s.detach() for s in out.hidden_states), out.mask, out.pooled.detach(), None)


class NothingCrosses(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        states = out.hidden_states[0]
        return out._replace(hidden_states=(states, states, states))


class NormsFirst(Broken):
    """Correct: layers that norm what they read, and a norm at the end, as in CLIP, SigLIP and mT5."""

    def __init__(self, info):
        super().__init__(info)
        for block in self.blocks:
            block.norm_first = True
        self.norm = nn.LayerNorm(info.hidden_size)

    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        states = (*out.hidden_states[:-1], self.norm(out.hidden_states[-1]))
        return out._replace(hidden_states=states, pooled=self.norm(out.pooled))


class ForgetsTheNorm(NormsFirst):
    """``output_hidden_states`` of transformers' CLIP and SigLIP, taken as it comes."""

    def forward(self, input_ids, attention_mask):
        out = TinyEncoder.forward(self, input_ids, attention_mask)
        mean = (self.norm(out.hidden_states[-1]) * attention_mask.unsqueeze(-1)).sum(1)
        return out._replace(pooled=mean / attention_mask.sum(1, keepdim=True))


class GivesAnEarlierState(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(hidden_states=(out.hidden_states[0], *out.hidden_states[:2]))


class NormsOnceMore(Broken):
    """Correct: the token states are the tower's, and only the sentence vector is normed again, as in AltCLIP."""

    def __init__(self, info):
        super().__init__(info)
        self.pre_norm = nn.LayerNorm(info.hidden_size)

    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=self.pre_norm(out.hidden_states[-1])[:, 0] + 0.1)


class LosesPrecision(Broken):
    """Its embeddings stand on a pedestal on which a bfloat16 (8 bits) has steps of 4."""

    def __init__(self, info):
        super().__init__(info)
        self.raised = nn.Linear(info.hidden_size, info.hidden_size)
        with torch.no_grad():
            self.raised.weight.copy_(torch.eye(info.hidden_size))
            self.raised.bias.fill_(600.0)

    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=self.raised(out.pooled) - 600)


class LosesAWeight(Broken):
    def save(self, folder):
        held = self.embedding.weight.detach().clone()
        with torch.no_grad():
            self.embedding.weight.zero_()
        super().save(folder)
        with torch.no_grad():
            self.embedding.weight.copy_(held)


class AcceptsAnything(Broken):
    @classmethod
    def load(cls, checkpoint, *, revision=None):
        if checkpoint == "seed-0":
            return super().load(checkpoint)
        encoder = super().load("seed-0")
        encoder.load_state_dict(load_file(Path(checkpoint) / "model.safetensors"), strict=False)
        return encoder


class ForgivesNorms(Broken):
    """Takes a norm that the file lacks for one that was never trained; every other weight must be there."""

    @classmethod
    def load(cls, checkpoint, *, revision=None):
        try:
            return super().load(checkpoint)
        except Exception:
            encoder = super().load("seed-0")
            stored = load_file(Path(checkpoint) / "model.safetensors")
            if {name for name in encoder.state_dict().keys() - stored.keys() if "norm" not in name}:
                raise
            if any(name not in encoder.state_dict() for name in stored):
                raise
            if any(tensor.shape != encoder.state_dict()[name].shape for name, tensor in stored.items()):
                raise
            encoder.load_state_dict(stored, strict=False)
            return encoder


class SharesAWeight(Broken):
    """Correct: a tensor that is stored twice, as tied embeddings are, can be missing once."""

    def __init__(self, info):
        super().__init__(info)
        self.tied = self.embedding

    @classmethod
    def load(cls, checkpoint, *, revision=None):
        if checkpoint == "seed-0":
            return super().load(checkpoint)
        from safetensors.torch import save_file

        path = Path(checkpoint) / "model.safetensors"
        stored = load_file(path)
        both = {"tied.weight": "embedding.weight", "embedding.weight": "tied.weight"}
        for name, twin in both.items():
            if name not in stored and twin in stored:
                stored[name] = stored[twin].clone()
        save_file(stored, path)
        return super().load(checkpoint)

    def save(self, folder):
        from safetensors.torch import save_file

        self.tied = None
        super().save(folder)
        self.tied = self.embedding
        path = Path(folder) / "model.safetensors"
        stored = load_file(path)
        save_file({**stored, "tied.weight": stored["embedding.weight"].clone()}, path)


class DrawsAWeight(Broken):
    """A load that leaves one weight of every checkpoint random."""

    @classmethod
    def load(cls, checkpoint, *, revision=None):
        encoder = super().load(checkpoint)
        with torch.no_grad():
            encoder.position.weight.normal_()
        return encoder


class DrawsAWeightOnce(Broken):
    """The trap of ``AltCLIPTextModel.from_pretrained``: only the checkpoint of the hub is read wrongly."""

    @classmethod
    def load(cls, checkpoint, *, revision=None):
        encoder = super().load(checkpoint)
        if checkpoint == "seed-0":
            with torch.no_grad():
                encoder.position.weight.normal_()
        return encoder


class AsksOnForward(Broken):
    def forward(self, input_ids, attention_mask):
        with contextlib.suppress(OSError):  # as a library that reports home would
            socket.getaddrinfo("localhost", 80)
        return super().forward(input_ids, attention_mask)


class AsksOnLoad(Broken):
    @classmethod
    def load(cls, checkpoint, *, revision=None):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
            connection.connect(("127.0.0.1", 9))
        return super().load(checkpoint)


class CannotBePickled(Broken):
    def __init__(self, info):
        super().__init__(info)
        self.register_forward_hook(lambda module, inputs, output: None)


class NeedsItsParent(Broken):
    """Pickled as a key into a table that only the process which made it has."""

    MADE: dict[int, Any] = {}

    def __reduce__(self):
        self.MADE[id(self)] = self
        return _found, (id(self),)


def _found(number: int) -> Any:
    return NeedsItsParent.MADE[number]


class ChangesItsTokenizer(Broken):
    """Subclasses break the tokenizer; a saved and loaded encoder has the same broken one."""

    def __init__(self, info):
        super().__init__(info)
        self.change(self.tokenizer.backend_tokenizer)

    def change(self, backend: Any) -> None: ...


class DropsWords(ChangesItsTokenizer):
    def change(self, backend):
        backend.normalizer = normalizers.Replace(Regex(r"[^\x00-\x7f]"), "")


class JoinsWords(ChangesItsTokenizer):
    """Makes one token of two Russian words."""

    def change(self, backend):
        backend.normalizer = normalizers.Replace(Regex(r"[а-я]+ [а-я]+"), "_")


class Shifted(PreTrainedTokenizerFast):
    """Counts the space that it puts before a text."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        coded = super().__call__(*arguments, **options)
        if "offset_mapping" in coded:
            coded["offset_mapping"] = [
                (a + 1, b + 1) if b > a else (a, b) for a, b in coded["offset_mapping"]
            ]
        return coded


class ShiftsOffsets(ChangesItsTokenizer):
    def change(self, backend):
        names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
        self.tokenizer = Shifted(tokenizer_object=backend, model_max_length=512, **names)


class DropsSeparators(ChangesItsTokenizer):
    """As NLLB's own tokenizer does it."""

    def change(self, backend):
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A $B </s>", special_tokens=FRAME
        )


class ClosesNothing(ChangesItsTokenizer):
    """Not wrong, but worth a word: Gemma's tokenizer."""

    def change(self, backend):
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=FRAME
        )


class PutsALanguage(ChangesItsTokenizer):
    """The token `!` before every text, as NLLB puts `eng_Latn`."""

    def change(self, backend):
        special = [*FRAME, ("!", backend.token_to_id("!"))]
        backend.post_processor = processors.TemplateProcessing(
            single="! $A </s>", pair="! $A </s> $B </s>", special_tokens=special
        )
