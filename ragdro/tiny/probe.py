"""What the tiny base can do on held-out worlds: reading and ranking, each target given the ones before it.

In: a model and its tokenizer. Out: fractions of 1.
- `chain_N_first`, `chain_N_second`: the first and second identifier of a chain-style list, two-hop, N
  candidates.
- `lookup_N_first`, `lookup_N_second`: the same in the pretext documents that ask many short queries.
- `read_1`, `read_2`: exact match of one- and two-hop reading among 5 passages; `read_new`: of either, where
  the answer is an animal that the base forgets at the end.
"""

from __future__ import annotations

import random

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ragdro.tiny.documents import TARGET, DocumentSource, Mixture, Piece
from ragdro.tiny.words import NEW_ANIMALS

PER_IDENTIFIER = 4
"""Tokens of `[3] >`; the number is the second of them."""


class Probe:
    """A fixed set of held-out documents of each kind."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, size: int = 96) -> None:
        self.tokenizer = tokenizer
        source = DocumentSource(random.Random(seed), Mixture(two_hop=0.5))
        names = ("chain_6", "chain_20", "read_1", "read_2", "read_new", "lookup_6", "lookup_20")
        self.sets: dict[str, list[list[Piece]]] = {name: [] for name in names}
        while min(len(self.sets[name]) for name in ("read_1", "read_2", "read_new")) < size:
            worlds, question = next(source.clusters)
            ranked = source.ranked(worlds, question)
            hops = len(question.facts)
            reads = "read_new" if question.answer in NEW_ANIMALS else f"read_{hops}"
            self.sets[reads].append(source.reading(question, ranked, 5))
            if hops == 2:
                self.sets["chain_20"].append(source.selection(question, ranked, chain=True))
                shorter = source.shortened(question, ranked, 6)
                self.sets["chain_6"].append(source.selection(question, shorter, chain=True))
            if len(self.sets["lookup_20"]) < size // 6:
                self.sets["lookup_20"].append(source.lookup(worlds[0], 20))
                self.sets["lookup_6"].append(source.lookup(worlds[0], 6))
        self.sets = {name: documents[:size] for name, documents in self.sets.items()}

    @torch.no_grad()
    def _hits(self, model: LlamaForCausalLM, name: str) -> list[list[list[bool]]]:
        """For each target piece of each document, whether each of its tokens is the likeliest one."""
        hits = []
        for pieces in self.sets[name]:
            ids = self.tokenizer([piece.text for piece in pieces])["input_ids"]
            tokens = torch.tensor([token for piece in ids for token in piece])
            logits = model(input_ids=tokens[None], use_cache=False).logits[0]
            right = [False, *(logits[:-1].argmax(-1) == tokens[1:]).tolist()]
            ends = torch.tensor([len(piece) for piece in ids]).cumsum(0).tolist()
            spans = zip(pieces, ids, ends, strict=True)
            hits.append(
                [
                    right[end - len(i) : end]
                    for piece, i, end in spans
                    if piece.weight == TARGET and (name[0] != "l" or len(i) == 7)
                ]
            )
        return hits

    def measures(self, model: LlamaForCausalLM) -> dict[str, float]:
        """Every measure by name."""
        out: dict[str, float] = {}
        for name in self.sets:
            targets = [target for document in self._hits(model, name) for target in document]
            if name.startswith("read"):
                out[name] = _fraction([all(target) for target in targets])
            else:
                out[f"{name}_first"] = _fraction([target[1] for target in targets])
                out[f"{name}_second"] = _fraction([target[1 + PER_IDENTIFIER] for target in targets])
        return out

    def line(self, model: LlamaForCausalLM) -> str:
        """All measures in one line."""
        return " ".join(f"{name} {value:.2f}" for name, value in self.measures(model).items())


def _fraction(hits: list[bool]) -> float:
    return sum(hits) / len(hits)
