"""Blocks computed once for all lists against one pass for each list through the model's own forward."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ragdro.config.models import LoraAdapter
from ragdro.errors import ConfigError
from ragdro.lm.adapters import with_adapter
from ragdro.lm.block_cache import require_blocks
from ragdro.lm.blocks import BlockRow
from ragdro.lm.model import LanguageModel
from ragdro.lm.rotation import Rotation
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.lm.tree import Ints, ScoredSequence
from tests.conftest import byte_level, random_model

NOPE = {"no_rope_layers": [1, 0]}
MIXED = {"sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
VARIANTS: dict[str, dict[str, object]] = {
    "llama": {},
    "llama-yarn": {"rope_parameters": YARN},
    "mistral-window": {"sliding_window": 9},
    "qwen2": {"use_sliding_window": True, **MIXED},
    "qwen3": {"tie_word_embeddings": True},
    "gemma2": {**MIXED, "query_pre_attn_scalar": 8},
    "gemma3_text": {**MIXED, "query_pre_attn_scalar": 8},
    "phi": {"partial_rotary_factor": 0.5},
    "phi3": {},
    "olmo2": {},
    "granite": {"attention_multiplier": 0.3},
    "glm": {},
    "cohere2": MIXED,
    "smollm3": NOPE,
}


def drawn(seed: int, lists: list[tuple[int, ...]]) -> list[ScoredSequence]:
    """Lists of blocks of unlike lengths behind a first block, each with a tail; every tail begins alike."""
    rng = np.random.default_rng(seed)
    first, *blocks = (rng.integers(5, 300, n) for n in (4, 7, 12, 3, 10))
    asked = rng.integers(5, 300, 5)
    return [
        scored([first, *(blocks[b] for b in z)], asked, rng.integers(5, 300, 2 + i))
        for i, z in enumerate(lists)
    ]


def scored(blocks: list[Ints], asked: Ints, answer: Ints) -> ScoredSequence:
    tokens, ends = np.concatenate([*blocks, asked, answer]), np.cumsum([len(b) for b in blocks])
    return ScoredSequence(tokens, np.arange(len(tokens) - len(answer), len(tokens)), blocks=ends)


def textbook(model: LanguageModel, sequence: ScoredSequence) -> torch.Tensor:
    """One list alone: its own tokens at their places, a mask made cell by cell."""
    n, config, own = len(sequence.tokens), model.hf.config, np.zeros(len(sequence.tokens), int)
    assert sequence.blocks is not None
    for end in sequence.blocks:
        own[end:] += 1
    tail = own[-1]
    masks = {}
    for kind, window in (
        ("full_attention", n),
        ("sliding_attention", config.to_dict().get("sliding_window") or n),
    ):
        mask = torch.full((1, 1, n, n), torch.finfo(model.hf.dtype).min, dtype=model.hf.dtype)
        for q in range(n):
            for k in range(max(0, q - window + 1), q + 1):
                if own[q] in (own[k], tail):
                    mask[0, 0, q, k] = 0
        masks[kind] = mask
    if getattr(config, "layer_types", None) is None:
        chosen = masks["sliding_attention"]
    else:
        chosen = {kind: masks[kind] for kind in set(config.layer_types)}
        chosen = chosen if len(chosen) > 1 else next(iter(chosen.values()))
    logits = model.hf(
        input_ids=torch.from_numpy(sequence.tokens)[None],
        attention_mask=chosen,
        position_ids=torch.arange(n)[None],
        use_cache=False,
    ).logits[0]
    rows = logits[sequence.targets - 1].log_softmax(-1)
    return rows.gather(1, torch.from_numpy(sequence.tokens[sequence.targets])[:, None]).sum()


def slopes(model: LanguageModel) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in model.hf.parameters() if p.grad is not None]
    model.hf.zero_grad()
    return found


LISTS = [(0, 1, 2), (2, 1, 0), (3,), (1, 3, 0), (0, 1, 2), (0, 1, 2, 3), (3, 3)]


def assert_equal_to_separate(model: LanguageModel, dtype_tolerance: float = 1e-5) -> None:
    groups = [drawn(0, LISTS), drawn(1, [(1, 2)]), drawn(0, [(2, 0)])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared = torch.cat(sequence_log_probs(model, [SequenceGroup.of(g) for g in groups]))
    assert model.shares_blocks is True
    weights = torch.linspace(-1, 1, len(shared), dtype=shared.dtype)
    (shared * weights).sum().backward()
    ours = slopes(model)
    separate = torch.stack([textbook(model, s) for g in groups for s in g])
    (separate * weights).sum().backward()
    expected = slopes(model)
    assert (shared - separate).abs().max() <= dtype_tolerance * max(1.0, float(separate.detach().abs().max()))
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).abs().max() <= dtype_tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_blocks_equal_separate_passes_with_gradients(variant: str) -> None:
    settings = {"num_key_value_heads": 2, "pad_token_id": 0, **VARIANTS[variant]}
    model = random_model(byte_level(), variant.split("-")[0], **settings)
    assert_equal_to_separate(model)


@pytest.mark.parametrize("how", ["lora", "checkpointing", "bfloat16"])
def test_adapters_checkpoints_and_16_bits(how: str) -> None:
    model = random_model(byte_level(), num_key_value_heads=2)
    if how == "lora":
        model = with_adapter(model, "generator", LoraAdapter(rank=2, alpha=8.0), seed=0)
        for name, p in model.hf.named_parameters():
            if "lora_B" in name:
                p.data.normal_(0, 0.3)
    elif how == "checkpointing":
        model.hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.hf.train()
    else:
        model.hf.to(torch.bfloat16)
    assert_equal_to_separate(model, 1e-5 if how != "bfloat16" else 0.1)


def test_an_order_of_the_same_blocks_changes_their_positions_alone() -> None:
    """All orders have the nodes of one, but for the tails; tokens and positions of blocks are the same."""
    sequences = drawn(0, [(0, 1, 2), (2, 0, 1)])
    one, two, both = (SequenceGroup.of(s).tree for s in (sequences[:1], sequences[1:], sequences))
    assert isinstance(one, BlockRow) and isinstance(two, BlockRow) and isinstance(both, BlockRow)
    assert {b.tobytes() for b in one.blocks} == {b.tobytes() for b in two.blocks}
    blocks = len(one) - len(one.lists[0].tail)
    assert len(both) == len(one) + len(two.lists[0].tail)
    assert one.positions[:blocks].tolist() == both.positions[:blocks].tolist()
    assert both.lists[1].starts.tolist() == [0, 4, 7, 14]
    for path, sequence in zip(both.paths, sequences, strict=True):
        assert both.tokens[path].tolist() == sequence.inputs.tolist()


def test_tails_behind_one_list_share_what_they_begin_with() -> None:
    first, second = drawn(0, [(0, 1), (0, 1)])
    tree = SequenceGroup.of([first, second]).tree
    assert isinstance(tree, BlockRow) and len(tree.lists) == 1
    assert len(tree.lists[0].tail) < len(first.inputs) + len(second.inputs) - 2 * first.blocks[-1]  # type: ignore[index]


def test_a_pass_that_is_not_equal_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are not turned: the first batch finds it, and every list is computed by itself."""
    monkeypatch.setattr(Rotation, "turns", lambda self, layer: False)
    model = random_model(byte_level())
    group = drawn(0, LISTS)
    with pytest.warns(RuntimeWarning, match="separately"):
        values = sequence_log_probs(model, [SequenceGroup.of(group)])[0]
    assert model.shares_blocks is False and model.fallbacks == len(LISTS)
    expected = torch.stack([textbook(model, s) for s in group])
    assert values.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "llama": ({"attn_implementation": "eager"}, "sdpa"),
    "gpt2": ({}, "rotary"),
    "phi3": (
        {
            "max_position_embeddings": 320,
            "original_max_position_embeddings": 40,
            "rope_parameters": {
                "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4, "original_max_position_embeddings": 40, "factor": 8.0,
            },
        },
        "length",
    ),
}  # fmt: skip


@pytest.mark.parametrize("architecture", REFUSED)
def test_a_model_that_cannot_read_blocks_is_refused_by_the_key(architecture: str) -> None:
    settings, reason = REFUSED[architecture]
    model = random_model(byte_level(), architecture, **{"pad_token_id": 0, **settings})
    with pytest.raises(ConfigError, match=rf"generator\.passage_attention.*{reason}.*full"):
        require_blocks(model)


def test_keys_that_are_not_turned_as_the_rotary_module_says_are_refused() -> None:
    model = random_model(byte_level())
    layer = model.hf.get_decoder().layers[1].self_attn
    project = layer.k_proj.forward
    layer.k_proj.forward = lambda x: project(x) + torch.arange(x.shape[1])[None, :, None]
    with pytest.raises(ConfigError, match="layer 1 are not turned"):
        sequence_log_probs(model, [SequenceGroup.of(drawn(0, LISTS))])
