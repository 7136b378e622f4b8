"""Scores of passages for a pointer: one pass over the prompts of a batch.

In: a model with projections, or with weights of its attention heads, and encoded prompts. Out: a score for
each passage and one for "enough", with gradients where they are on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ragdro.lm.heads import AttentionProbe, FeatureCache, HeadWeights
from ragdro.lm.model import LanguageModel
from ragdro.prompts.template import EncodedPrompt


def passage_scores(model: LanguageModel, prompts: Sequence[EncodedPrompt]) -> list[Tensor]:
    """[passages + 1] of each prompt: the score of each passage and, last, of "enough"; in one pass (float32,
    on the device), where frequencies depend on a sequence's length in one for each class of lengths."""
    classes = model.length_classes
    if classes is None:
        return _scores(model, prompts)
    scores: dict[int, Tensor] = {}
    for alike in classes.apart([(len(p.ids), len(p.ids)) for p in prompts]):
        scores.update(zip(alike, _scores(model, [prompts[i] for i in alike]), strict=True))
    return [scores[i] for i in range(len(prompts))]


def _scores(model: LanguageModel, prompts: Sequence[EncodedPrompt]) -> list[Tensor]:
    if isinstance(model.projections, HeadWeights):
        return _by_attention(model, model.projections, prompts)
    projections, device = model.projections, model.device
    assert projections is not None
    tokens, positions = _padded(model, prompts)
    states = model.hidden(tokens, positions)
    counts = [len(p.ends) for p in prompts]
    owners = torch.from_numpy(np.repeat(np.arange(len(prompts)), counts)).to(device)
    ends = torch.tensor([end for p in prompts for end in p.ends], device=device)
    last = torch.tensor([len(p.ids) - 1 for p in prompts], device=device)
    rows = torch.arange(len(prompts), device=device)
    scores, enough = projections(states[owners, ends], states[rows, last], owners)
    return _each(scores, enough, counts)


def _by_attention(
    model: LanguageModel, weights: HeadWeights, prompts: Sequence[EncodedPrompt]
) -> list[Tensor]:
    """`_scores` by what the model's attention heads say; what is in the cache is not computed again."""
    features = _features(model, weights.cache, prompts)
    counts = [len(p.ends) for p in prompts]
    owners = torch.from_numpy(np.repeat(np.arange(len(prompts)), counts)).to(model.device)
    scores, enough = weights(features, len(prompts), owners)
    return _each(scores, enough, counts)


def _features(model: LanguageModel, cache: FeatureCache | None, prompts: Sequence[EncodedPrompt]) -> Tensor:
    """[passages of all prompts, heads], on the device; those that are all known go there together."""
    if cache is None:
        return torch.cat(head_features(model, prompts))
    keys = [np.array([*p.ids, -1, *p.ends]).tobytes() for p in prompts]
    features_of = {i: features for i, key in enumerate(keys) if (features := cache.get(key)) is not None}
    missing = [i for i in range(len(prompts)) if i not in features_of]
    if not missing:
        return torch.cat([features_of[i] for i in range(len(prompts))]).to(model.device)
    for i, features in zip(missing, head_features(model, [prompts[i] for i in missing]), strict=True):
        cache.put(keys[i], features)
        features_of[i] = features
    return torch.cat([features_of[i].to(model.device) for i in range(len(prompts))])


def _each(scores: Tensor, enough: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """[passages + 1] of each question: its own `scores` and, last, that of "enough"."""
    ends = np.cumsum(counts)
    order = np.insert(np.arange(len(scores)), ends, len(scores) + np.arange(len(counts)))
    together = torch.cat([scores, enough])[torch.from_numpy(order).to(scores.device)]
    return list(torch.split(together, [count + 1 for count in counts]))


def head_features(model: LanguageModel, prompts: Sequence[EncodedPrompt]) -> list[Tensor]:
    """[passages, heads] of each prompt: the log-attention of its question's tokens to each passage, in one
    pass (float32, on the device)."""
    tokens, positions = _padded(model, prompts)
    asked = np.full((len(prompts), max(len(p.asked) for p in prompts)), -1)
    passages = np.full(tuple(tokens.shape), -1)
    for row, prompt in enumerate(prompts):
        asked[row, : len(prompt.asked)] = list(prompt.asked)
        assert prompt.begin is not None
        starts = [prompt.begin, *(end + 1 for end in prompt.ends)]
        for number, (start, end) in enumerate(zip(starts, prompt.ends, strict=False)):
            passages[row, start : end + 1] = number
    device, most = model.device, max(len(p.ends) for p in prompts)
    probe = AttentionProbe(torch.from_numpy(asked).to(device), torch.from_numpy(passages).to(device), most)
    model.hidden(tokens, positions, probe=probe)
    return [features[: len(p.ends)] for features, p in zip(probe.features, prompts, strict=True)]


def _padded(model: LanguageModel, prompts: Sequence[EncodedPrompt]) -> tuple[Tensor, Tensor]:
    """Token ids and positions [prompts, width], pads behind."""
    width = max(len(p.ids) for p in prompts)
    tokens = np.full((len(prompts), width), model.tokenizer.pad_id, np.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt.ids)] = prompt.ids
    positions = torch.arange(width, device=model.device).expand(len(prompts), width)
    return torch.from_numpy(tokens).to(model.device), positions
