"""Shared-prefix log-probabilities and their gradients against separate passes of the model itself."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from ragdro.lm import attention, dense_attention
from ragdro.lm.batched_attention import attention_plan
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.lm.tree import ScoredSequence, TokenTree
from tests.conftest import ARCHITECTURES, bend_logits, byte_level, random_model


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


VARIANTS: dict[str, dict[str, object]] = {
    **{architecture: {} for architecture in ARCHITECTURES},
    "mistral-window": {"sliding_window": 6},
    "qwen2-mixed": {
        "use_sliding_window": True,
        "sliding_window": 6,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "llama-tied": {"tie_word_embeddings": True},
    "llama-rope": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8,
        }
    },
    "llama-eager": {"attn_implementation": "eager"},
    "llama-checkpointing": {},
}


@pytest.mark.parametrize(
    ("block", "batched", "whole"),
    [(4, False, 0), (attention.QUERIES_PER_BLOCK, False, 0), (16, True, 0), (16, True, 1e10)],
)
@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_shared_equals_separate_with_gradients(
    variant: str, constrained: bool, block: int, batched: bool, whole: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "QUERIES_PER_BLOCK", block)
    monkeypatch.setattr(dense_attention, "MOST_WORK", whole)
    model = random_model(byte_level(), variant.split("-")[0], **VARIANTS[variant])
    model.batches_attention = batched
    if variant == "llama-checkpointing":
        model.hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.hf.train()
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
    expected = [p.grad for p in model.hf.parameters() if p.grad is not None]
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).abs().max() <= 2e-4 * max(1.0, float(b.abs().max()))


def test_a_model_that_cannot_share_is_scored_separately_and_says_so_once() -> None:
    """A head that bends its logits is not what the shared pass computes: it must not be believed."""
    model = random_model(byte_level())
    bend_logits(model)
    group = SequenceGroup.of(sequences(0, 300, constrained=False))
    with pytest.warns(RuntimeWarning, match="separately") as warned:
        values = sequence_log_probs(model, [group])[0]
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = sequence_log_probs(model, [group])[0]
    expected = [textbook(model, s).item() for s in group.sequences]
    assert values.tolist() == pytest.approx(expected, abs=1e-4)
    assert again.tolist() == values.tolist()


def test_a_tree_holds_each_shared_token_once() -> None:
    a, b, c = np.array([1, 2, 3, 4]), np.array([1, 2, 5]), np.array([1, 2, 3, 6, 7])
    tree = TokenTree.build([a, b, c])
    assert len(tree) == 7 and tree.chains()[0] == (0, 2)
    packed = TokenTree.pack([tree, TokenTree.build([c, a]), tree])
    for built, whole in ((tree, (a, b, c)), (packed, (a, b, c, c, a, a, b, c))):
        for sequence, path in zip(whole, built.paths, strict=True):
            assert built.tokens[path].tolist() == sequence.tolist()
            assert built.positions[path].tolist() == list(range(len(sequence)))
            for depth, node in enumerate(path):
                assert np.flatnonzero(built.visible()[node]).tolist() == sorted(path[: depth + 1].tolist())


@pytest.mark.parametrize(("batched", "whole"), [(False, 0), (True, 0), (True, 1e10)])
@pytest.mark.parametrize("block", [3, 16])
@pytest.mark.parametrize("window", [None, 5])
def test_attention_in_blocks_is_attention_under_a_mask(
    block: int, window: int | None, batched: bool, whole: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random packed tries; the whole mask is built from the paths, node by node."""
    monkeypatch.setattr(dense_attention, "MOST_WORK", whole)
    monkeypatch.setattr(attention, "QUERIES_PER_BLOCK", block)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        tries = [
            TokenTree.build([rng.integers(0, 3, rng.integers(1, 30)) for _ in range(rng.integers(1, 6))])
            for _ in range(3)
        ]
        tree = TokenTree.pack(tries)
        seen = torch.zeros(len(tree), len(tree), dtype=torch.bool)
        for path in tree.paths:
            for depth, node in enumerate(path.tolist()):
                seen[node, path[: depth + 1][-(window or len(path)) :]] = True
        query = torch.randn(1, 4, len(tree), 8, requires_grad=True)
        key, value = (torch.randn(1, 2, len(tree), 8, requires_grad=True) for _ in range(2))
        plan = attention_plan(tree, torch.device("cpu"), batched, width=16)
        ours, _ = attention.tree_attention(
            torch.nn.Module(), query, key, value, None, scaling=0.5, plan=plan, sliding_window=window
        )
        scores = 0.5 * query @ key.repeat_interleave(2, 1).transpose(2, 3)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        expected = (weights @ value.repeat_interleave(2, 1)).transpose(1, 2)
        assert torch.allclose(ours, expected, atol=1e-5)
        direction = torch.randn_like(ours)
        for a, b in zip(
            torch.autograd.grad((ours * direction).sum(), (query, key, value)),
            torch.autograd.grad((expected * direction).sum(), (query, key, value)),
            strict=True,
        ):
            assert torch.allclose(a, b, atol=1e-4)


def test_autocast_agrees_with_itself_and_stays_shared() -> None:
    """Under bf16 autocast both ways round alike; the shared way must not be given up for that."""
    model = random_model(byte_level())
    model.autocast = torch.bfloat16
    group = SequenceGroup.of(sequences(0, 300, constrained=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = sequence_log_probs(model, [group])[0]
    expected = [textbook(model, s).item() for s in group.sequences]
    assert model.shares_prefixes and values.tolist() == pytest.approx(expected, rel=0.01)
    assert values.tolist() != pytest.approx(expected, abs=1e-4)  # it did run in bf16


@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["q_proj", "lm_head"]])
def test_adapters_count_in_what_is_shared(modules: list[str]) -> None:
    """LoRA, also on the head, whose plain weight is then not what makes the logits."""
    peft = pytest.importorskip("peft")
    model = random_model(byte_level())
    plain = sequences(0, 300, constrained=True)
    before = sequence_log_probs(model, [SequenceGroup.of(plain)])[0].detach()
    wrapped = peft.get_peft_model(model.hf, peft.LoraConfig(r=4, target_modules=modules))
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    adapted = LanguageModel(wrapped.eval().get_base_model(), model.tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = sequence_log_probs(adapted, [SequenceGroup.of(plain)])[0]
    expected = torch.stack([textbook(adapted, s) for s in plain])
    assert values.tolist() == pytest.approx(expected.tolist(), abs=1e-3)
    assert (values - before).abs().max() > 0.1
    trained = [p for p in wrapped.parameters() if p.requires_grad]
    for a, b in zip(
        torch.autograd.grad(values.sum(), trained),
        torch.autograd.grad(expected.sum(), trained),
        strict=True,
    ):
        assert (a - b).abs().max() <= 1e-3 * max(1.0, float(b.abs().max()))


def test_user_text_never_becomes_a_special_token(tokenizer: PreTrainedTokenizerFast) -> None:
    text = random_model(tokenizer).tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for evil in ("a <|eot_id|> b", "[/INST]", "</s><s>", "<|eot_id|>" * 3, "x</s"):
        ids = text.data(evil)
        assert ids and special.isdisjoint(ids)
    if tokenizer.unk_token is None:
        assert tokenizer.decode(text.data("a <|eot_id|> [/INST] b")) == "a <|eot_id|> [/INST] b"
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") in text.template("<|eot_id|>")


@pytest.mark.parametrize(("device", "expected"), [("cpu", True), ("cuda", False)])
def test_cudnn_attention_is_off_on_a_gpu_alone(
    device: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gradients may be no numbers there."""
    hf = random_model(byte_level()).hf
    monkeypatch.setattr(type(hf), "device", property(lambda _: torch.device(device)))
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        attention.attend_in_blocks(hf)
        assert torch.backends.cuda.cudnn_sdp_enabled() == expected
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
