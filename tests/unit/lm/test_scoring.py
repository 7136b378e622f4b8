"""Shared-prefix log-probabilities and their gradients against separate passes of the model itself."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.lm.tree import ScoredSequence, TokenTree
from tests.conftest import ARCHITECTURES, byte_level, random_model


def sequences(seed: int, vocab: int, constrained: bool) -> list[ScoredSequence]:
    """Six sequences that share 9 tokens, some of them 13, two of them everything."""
    rng = np.random.default_rng(seed)
    trunk, branch = rng.integers(5, vocab, 9), rng.integers(5, vocab, 4)
    made = []
    for i in range(6):
        tail = rng.integers(5, vocab, 3 + i)
        tokens = np.concatenate([trunk, *([branch] if i % 2 else []), tail])
        made.append(scored(tokens, constrained, rng, vocab))
    return [*made, made[-1]]


def scored(tokens: np.ndarray, constrained: bool, rng: np.random.Generator, vocab: int) -> ScoredSequence:
    targets = np.arange(9, len(tokens))
    if not constrained:
        return ScoredSequence(tokens, targets)
    allowed = tuple(np.unique(np.append(rng.integers(5, vocab, 4), tokens[t])) for t in targets)
    return ScoredSequence(tokens, targets, allowed)


def textbook(model: LanguageModel, sequence: ScoredSequence) -> torch.Tensor:
    """Full logits of one plain forward pass; a loop over the targets."""
    logits = model.hf(input_ids=torch.from_numpy(sequence.tokens)[None]).logits[0].double()
    total = torch.zeros((), dtype=torch.float64)
    for i, t in enumerate(sequence.targets):
        row = logits[t - 1]
        over = row if sequence.allowed is None else row[torch.from_numpy(sequence.allowed[i])]
        total = total + row[sequence.tokens[t]] - over.logsumexp(0)
    return total


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "mistral-window", "qwen2-mixed"])
def test_shared_equals_separate_with_gradients(architecture: str, constrained: bool) -> None:
    settings: dict[str, object] = {}
    if architecture == "mistral-window":
        settings = {"sliding_window": 6}
    if architecture == "qwen2-mixed":
        layers = ["full_attention", "sliding_attention"]
        settings = {"use_sliding_window": True, "sliding_window": 6, "layer_types": layers, "head_dim": None}
        settings = {k: v for k, v in settings.items() if v is not None}
    model = random_model(byte_level(), architecture.split("-")[0], **settings)
    groups = [sequences(s, 300, constrained) for s in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared = torch.cat(sequence_log_probs(model, [SequenceGroup.of(g) for g in groups]))
    weights = torch.linspace(-1, 1, len(shared))
    (shared * weights).sum().backward()
    ours = [p.grad.clone() for p in model.hf.parameters() if p.grad is not None]
    model.hf.zero_grad()
    separate = torch.stack([textbook(model, s) for g in groups for s in g])
    (separate * weights).sum().backward()
    assert shared.detach().double().numpy() == pytest.approx(separate.detach().numpy(), abs=1e-4)
    theirs = [p.grad for p in model.hf.parameters() if p.grad is not None]
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= 2e-4 * max(1.0, float(b.abs().max()))


def test_a_model_that_cannot_share_is_scored_separately_and_says_so_once() -> None:
    """A head that rescales its logits is not what the shared pass computes: it must not be believed."""
    model = random_model(byte_level())
    plain = model.hf.forward

    def rescaled(*args: object, **kwargs: object) -> object:
        output = plain(*args, **kwargs)
        output.logits = output.logits * 0.5
        return output

    model.hf.forward = rescaled
    group = SequenceGroup.of(sequences(0, 300, constrained=False))
    with pytest.warns(RuntimeWarning, match="separately"):
        values = sequence_log_probs(model, [group])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = sequence_log_probs(model, [group])[0]
    expected = [float(textbook(model, s)) for s in group.sequences]
    assert values.tolist() == pytest.approx(expected, abs=1e-4)
    assert again.tolist() == values.tolist()


def test_a_tree_holds_each_shared_token_once() -> None:
    a, b, c = np.array([1, 2, 3, 4]), np.array([1, 2, 5]), np.array([1, 2, 3, 6, 7])
    tree = TokenTree.build([a, b, c])
    assert (len(tree), tree.trunk) == (7, 2)
    for sequence, path in zip((a, b, c), tree.paths, strict=True):
        assert tree.tokens[path].tolist() == sequence.tolist()
        assert tree.positions[path].tolist() == list(range(len(sequence)))
        for depth, node in enumerate(path):
            assert np.flatnonzero(tree.visible()[node]).tolist() == sorted(path[: depth + 1].tolist())


def test_user_text_never_becomes_a_special_token(tokenizer: PreTrainedTokenizerFast) -> None:
    text = random_model(tokenizer).tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for evil in ("a <|eot_id|> b", "[/INST]", "</s><s>", "<|eot_id|>" * 3, "x</s"):
        ids = text.data(evil)
        assert ids and special.isdisjoint(ids)
    if tokenizer.unk_token is None:
        assert tokenizer.decode(text.data("a <|eot_id|> [/INST] b")) == "a <|eot_id|> [/INST] b"
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") in text.template("<|eot_id|>")
