"""A pointer that goes by attention: against the library's own attention weights, and by enumeration."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from ragdro.config import Config, Optimisation, WarmUp
from ragdro.errors import ConfigError
from ragdro.lm.heads import FeatureCache, HeadWeights
from ragdro.lm.model import LanguageModel
from ragdro.lm.projections import save_projections, saved_projections
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget, PromptTemplate
from ragdro.selection.passage_scores import head_features
from ragdro.selection.pointer import PointerSelector
from ragdro.training.em import train
from ragdro.types import Task
from tests.conftest import byte_level, random_model
from tests.worlds import pocket_rag, pocket_tasks

LISTS = list(permutations(range(5), 2))


def by_heads(seed: int = 0, template: PromptTemplate | None = None, **settings: object) -> PointerSelector:
    """A pointer of 2 out of 5 with random weights of its heads."""
    model = random_model(byte_level(), seed=seed, **settings)
    model.projections = HeadWeights(model.heads)
    with torch.no_grad():
        torch.nn.init.normal_(model.projections.heads, generator=torch.Generator().manual_seed(seed))
    return PointerSelector(model, template or load_template("tiny-pointer"), k=2, n=5, budget=Budget(24, 24))


def by_hand(selector: PointerSelector, task: Task) -> torch.Tensor:
    """[passages, heads] from the library's eager attention, the spans found in the text itself."""
    encoded = selector.encoded(task)
    question, tokenizer = task.question.question, selector.model.tokenizer
    said = [tokenizer.hf.decode([i]) for i in encoded.ids]
    text, starts = "".join(said), np.cumsum([0, *map(len, said)])
    where = text.rindex(question)
    asked = [i for i in range(len(said)) if where < starts[i + 1] and starts[i] < where + len(question)]
    begins = [text.index(f"[{i + 1}] ") for i in range(5)]
    bounds = [*begins, text.rindex("Question:")]
    hf = selector.model.hf
    hf.set_attn_implementation("eager")
    with torch.no_grad():
        layers = hf(input_ids=torch.tensor([encoded.ids]), output_attentions=True).attentions
    hf.set_attn_implementation("ragdro_tree")
    columns = []
    for i in range(5):
        inside = [t for t in range(len(said)) if bounds[i] <= starts[t] < bounds[i + 1]]
        columns.append(torch.cat([a[0][:, asked][:, :, inside].sum(-1).mean(-1) for a in layers]))
    return (torch.stack(columns) + 1e-6).log()


@pytest.mark.parametrize("settings", [{}, {"num_attention_heads": 4, "num_key_value_heads": 2}])
def test_features_are_the_librarys_attention(settings: dict[str, object]) -> None:
    selector, tasks = by_heads(**settings), pocket_tasks(3, 5)
    together = head_features(selector.model, [selector.encoded(task) for task in tasks])
    for task, found in zip(tasks, together, strict=True):
        torch.testing.assert_close(found.detach(), by_hand(selector, task), atol=1e-4, rtol=1e-4)


def test_lists_have_the_probability_that_is_drawn_from() -> None:
    selector, (task,) = by_heads(), pocket_tasks(1, 5)
    p = np.exp(selector.log_prob(task, LISTS, 10_000))
    assert p.sum() == pytest.approx(1, abs=1e-5) and p.max() > 1.5 * p.min()
    (drawn,) = selector.sample(
        [task], [np.random.default_rng(0).random((3000, 2))], temperature=1.0, max_tokens=9999
    )
    counts = np.array([sum(d.permutation == z for d in drawn) for z in LISTS])
    assert ((counts - 3000 * p) ** 2 / (3000 * p)).sum() < 43.8  # 19 degrees, 0.999 quantile
    assert selector.greedy([task], 9999)[0].permutation == LISTS[int(np.argmax(p))]


def test_gradients_reach_the_heads_weights_and_the_model() -> None:
    selector, (task,) = by_heads(), pocket_tasks(1, 5)
    model = selector.model
    group = selector.group(task, [(3, 1)])
    (value,) = group.log_probs(model, [group])[0]
    value.backward()
    weights = model.projections
    assert isinstance(weights, HeadWeights) and weights.heads.grad is not None
    with torch.no_grad():  # a finite difference in one weight of a head and one of the model
        for parameter, place in (
            (weights.heads, 1),
            (model.hf.get_decoder().layers[0].self_attn.q_proj.weight, 5),
        ):
            flat, grad = parameter.view(-1), parameter.grad.view(-1)[place]
            values = []
            for step in (1e-2, -2e-2):
                flat[place] += step
                values.append(group.log_probs(model, [group])[0][0].item())
            flat[place] += 1e-2
            assert (values[0] - values[1]) / 2e-2 == pytest.approx(grad.item(), rel=0.05, abs=1e-4)


def test_a_frozen_model_reads_a_prompt_once_and_says_the_same() -> None:
    selector, tasks = by_heads(), pocket_tasks(3, 5)
    expected = [selector.log_prob(task, LISTS, 9999) for task in tasks]
    selector.model.freeze()
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    selector.model.hf.get_decoder().register_forward_pre_hook(count)
    for _ in range(2):
        for task, values in zip(tasks, expected, strict=True):
            assert selector.log_prob(task, LISTS, 9999) == pytest.approx(values, abs=1e-5)
    assert passes == 3
    before = {name: p.clone() for name, p in selector.model.hf.named_parameters()}
    fast = Optimisation(learning_rate=1e-3, projection_learning_rate=0.1, epochs=60, batch_size=3)
    train(
        selector, pocket_rag().generator, tasks, iterations=0,
        warm_up=WarmUp(teacher="gold", selector=fast, generator=None),
    )  # fmt: skip
    assert selector.encoded(tasks[0]) is selector.encoded(tasks[0])
    assert passes == 3 and all((p == before[n]).all() for n, p in selector.model.hf.named_parameters())
    assert [sorted(s.permutation) for s in selector.greedy(tasks, 9999)] == [[2, 3]] * 3


def test_a_cache_lets_go_of_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragdro.lm.heads._CACHED_NUMBERS", 20)
    cache = FeatureCache()
    for name in (b"a", b"b"):
        cache.put(name, torch.zeros(2, 5))
    assert cache.get(b"a") is not None
    cache.put(b"c", torch.zeros(2, 5))
    assert cache.get(b"b") is None and cache.get(b"a") is not None and cache.get(b"c") is not None


def test_weights_of_heads_are_saved_beside_the_model(tmp_path: Path) -> None:
    model = by_heads().model
    assert model.projections is not None
    save_projections(model.projections.state_dict(), tmp_path)
    (tmp_path / "config.json").write_text("{}")
    again = saved_projections(str(tmp_path), model.width, model.heads)
    assert isinstance(again, HeadWeights) and isinstance(model.projections, HeadWeights)
    assert torch.equal(again.heads, model.projections.heads)


def test_what_cannot_be_seen_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"behind \{passages\} too"):
        by_heads(
            template=PromptTemplate("Question: {question}\n{passages}Selection:", "[{identifier}] {text}\n")
        )
    values = {"data": {"train": "a", "validation": "b"}, "generator": {"model": "m"}}
    pointer = {"score": "attention", "frozen": True}
    for key, changed in (
        (r"pointer\.frozen", {"adapter": "lora"}),
        (r"pointer\.score", {"attention": "eager"}),
        (r"pointer\.score", {"gradient_checkpointing": True}),
    ):
        selector = {"model": "m", "kind": "pointer", "pointer": pointer, **changed}
        with pytest.raises(ValueError, match=key):
            Config.model_validate({**values, "selector": selector})


def test_another_attention_kernel_is_refused() -> None:
    model = random_model(byte_level())
    model.hf.set_attn_implementation("eager")
    unseen = LanguageModel(model.hf, model.tokenizer)
    unseen.projections = HeadWeights(unseen.heads)
    with pytest.raises(ConfigError, match=r"selector\.pointer\.score: the attention of .* cannot be seen"):
        PointerSelector(unseen, load_template("tiny-pointer"), k=2, n=5, budget=Budget(24, 24))


def test_a_prompt_that_comes_twice_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragdro.lm.heads._CACHED_NUMBERS", 12)
    cache = FeatureCache()
    for prompt in (b"a", b"a", b"a", b"b"):
        cache.put(prompt, torch.ones(2, 3))
    assert cache.get(b"a") is not None and cache.get(b"b") is not None
    cache.put(b"c", torch.ones(2, 3))
    assert [cache.get(prompt) is None for prompt in (b"a", b"b", b"c")] == [True, False, False]
