"""Branches decoded from one cache against whole sequences read anew at every step."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ragdro.lm.cache import RoomyLayer
from ragdro.lm.decoding import BranchDecoder, SeparateDecoder, branch_decoder
from ragdro.lm.model import LanguageModel
from tests.conftest import bend_logits, byte_level, random_model
from tests.unit.lm.test_scoring import VARIANTS


def written(model: LanguageModel, kind: type[BranchDecoder] | type[SeparateDecoder]) -> torch.Tensor:
    """Log-probabilities over the vocabulary at every branch that was fed something, in three ragged steps."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(5, 300, 11), rng.integers(5, 300, 7)]
    steps = [
        [[[7, 8], [], [9]], [[], [12, 13, 14], [5]]],
        [[[6], [5, 6, 7], []], [[9], [8], []]],
        [[[20, 21], [], [22]], [[30], [], [31, 32, 33, 34]]],
    ]
    vocabulary = torch.arange(300)
    decoder, log_probs = kind(model, prompts, 3), []
    with torch.no_grad():
        for step in steps:
            decoder.feed(step)
            branches = [(r, b) for r, row in enumerate(step) for b, t in enumerate(row) if t]
            allowed = torch.ones(len(branches), 300, dtype=torch.bool)
            log_probs.append(decoder.choice_logits(branches, vocabulary, allowed).log_softmax(-1))
    return torch.cat(log_probs)


@pytest.mark.parametrize("variant", VARIANTS)
def test_branches_from_one_cache_are_what_whole_sequences_give(variant: str) -> None:
    model = random_model(byte_level(), variant.split("-")[0], **VARIANTS[variant])
    cached, textbook = written(model, BranchDecoder), written(model, SeparateDecoder)
    assert textbook.std() > 0.1
    assert torch.allclose(cached, textbook, atol=1e-4)


def test_a_model_whose_numbers_the_cache_changes_is_decoded_separately_and_says_so_once() -> None:
    model = random_model(byte_level())
    bend_logits(model)
    prompt = np.arange(5, 20)
    with pytest.warns(RuntimeWarning, match="decoded separately"):
        assert isinstance(branch_decoder(model, [prompt], 2), SeparateDecoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(branch_decoder(model, [prompt], 2), SeparateDecoder)
        assert isinstance(branch_decoder(random_model(byte_level()), [prompt], 2), BranchDecoder)


def test_a_roomy_layer_holds_what_was_appended_however_often_it_moved() -> None:
    layer, parts = RoomyLayer(), []
    for new in (5, 3, 60, 9, 1, 200):  # the third and the last need more room than there is
        parts.append((torch.randn(2, 3, new, 4), torch.randn(2, 3, new, 4)))
        held = layer.update(*parts[-1])
        for ours, appended in zip(held, zip(*parts, strict=True), strict=True):
            assert torch.equal(ours, torch.cat(appended, 2))
        assert layer.get_seq_length() == sum(k.shape[2] for k, _ in parts)


def test_what_is_filled_in_parts_is_0_behind_the_shorter_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda old, *size: old.new_full(size, torch.nan))
    layer, parts = RoomyLayer(), [torch.randn(2, 3, 5, 4), torch.randn(1, 3, 3, 4)]
    layer.fill(slice(0, 2), (3, 5), parts[0], -parts[0])
    layer.fill(slice(2, 3), (3, 5), parts[1], -parts[1])
    expected = torch.cat([parts[0], torch.nn.functional.pad(parts[1], (0, 0, 0, 2))])
    assert torch.equal(layer.keys, expected) and torch.equal(layer.values, -expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_taken_back_is_as_if_it_had_never_been_fed(variant: str) -> None:
    model = random_model(byte_level(), variant.split("-")[0], **VARIANTS[variant])
    prompts = [np.arange(5, 16), np.arange(40, 47)]
    everywhere, vocabulary = [(0, 0), (0, 1), (1, 0), (1, 1)], torch.arange(300)
    allowed = torch.ones(4, 300, dtype=torch.bool)

    def logits(decoder: BranchDecoder | SeparateDecoder) -> torch.Tensor:
        return decoder.choice_logits(everywhere, vocabulary, allowed).log_softmax(-1)

    with torch.no_grad():
        straight = BranchDecoder(model, prompts, 2)
        straight.feed([[[7, 8, 9], [12]], [[5, 6, 9], [7, 8, 11, 13]]])
        for kind in (BranchDecoder, SeparateDecoder):
            decoder = kind(model, prompts, 2)
            decoder.feed([[[7, 20], [12]], [[5], [7, 8, 9]]])
            decoder.rewind(0, 0, 1)
            decoder.rewind(1, 1, 2)
            decoder.feed([[[8, 30, 31], []], [[], [8, 11]]])
            decoder.rewind(0, 0, 2)
            decoder.rewind(0, 1, 1)
            decoder.feed([[[9], [12]], [[6, 9], [13]]])
            assert torch.allclose(logits(decoder), logits(straight), atol=1e-4)


def test_what_branches_have_in_common_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens counted by hand, roots among them; a question with fewer is padded to the other's."""
    model, computed = random_model(byte_level()), []
    hidden = model.hidden

    def counted(tokens: torch.Tensor, *rest: object, **further: object) -> torch.Tensor:
        computed.append(tuple(tokens.shape))
        return hidden(tokens, *rest, **further)

    prompts, vocabulary = [np.arange(5, 16), np.arange(40, 47)], torch.arange(300)
    steps = [
        [[[7, 8], [7, 8], [7, 9]], [[3], [], [3]]],  # root, 7, 8, 9; root, 3
        [[[5], [6], [5]], [[4], [3, 4], []]],  # 5, 6, 5; 4: the second branch comes where the first is
        [[[], [], []], [[], [], [4]]],  # nothing that is not there
    ]
    taken_back = [[[5], [], []], [[], [], []]]  # branch 0 goes over to branch 1's token and back
    with torch.no_grad():
        textbook = SeparateDecoder(model, prompts, 3)
        monkeypatch.setattr(model, "hidden", counted)
        decoder = BranchDecoder(model, prompts, 3)
        for step in steps:
            for one in (decoder, textbook):
                one.feed(step)
        for one in (decoder, textbook):
            one.rewind(0, 0, 1)
            one.feed([[[6], [], []], [[], [], []]])
            one.rewind(0, 0, 1)
            one.feed(taken_back)
        assert computed == [(2, 10), (2, 4), (2, 3)]
        branches = [(r, b) for r in range(2) for b in range(3)]
        allowed = torch.ones(6, 300, dtype=torch.bool)
        ours, theirs = (
            one.choice_logits(branches, vocabulary, allowed).log_softmax(-1) for one in (decoder, textbook)
        )
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.equal(ours[3], ours[4]) and torch.equal(ours[4], ours[5])
