"""The pointer selector: where passages end, and that what it says of lists is one distribution."""

from __future__ import annotations

from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from ragdro.errors import ConfigError, ModelError
from ragdro.lm.decoding import branch_decoder
from ragdro.lm.groups import log_probs
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget, PromptTemplate
from ragdro.selection.pointer import PointerSelector
from ragdro.selection.rerank import all_lists
from ragdro.types import Candidates, Passage, Question, Task
from tests.conftest import byte_level, random_model
from tests.worlds import pocket_tasks

CHAT = "{% for m in messages %}<|eot_id|>{{ m.content }}<|eot_id|>{% endfor %}<s>"
RUNNING_ON = PromptTemplate("{question} in {passages}which? {question}", "{text}:")
"""Its passages do not end in a newline, so no border of segments is where they end."""


def pointer(
    tokenizer: PreTrainedTokenizerFast | None = None,
    template: PromptTemplate | None = None,
    *,
    trained: bool = True,
    **settings: Any,
) -> PointerSelector:
    """`trained`: projections that are not the identity."""
    model = random_model(tokenizer or byte_level(), **settings.pop("model", {}))
    options = {"k": 2, "n": 5, "budget": Budget(40, 40), **settings}
    made = PointerSelector(model, template or load_template("tiny-pointer"), **options)
    if trained:
        drawn = torch.Generator().manual_seed(1)
        assert model.projections is not None
        with torch.no_grad():
            for parameter in model.projections.parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=drawn))
    return made


def task_of(*texts: str) -> Task:
    passages = tuple(Passage(f"{i}", f"T{i}", text) for i, text in enumerate(texts))
    return Task(Question("q", "where does <|eot_id|>Mara work?", ("Zorba",)), Candidates("q", passages))


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("template", ["pointer", "tiny-pointer", "running-on"])
def test_a_passages_end_is_the_token_that_has_its_last_character(
    tokenizer: PreTrainedTokenizerFast, template: str, chat: bool
) -> None:
    """Against the text of the tokens up to it; passages name control tokens and repeat one another."""
    if chat:
        tokenizer.chat_template = CHAT
    used = RUNNING_ON if template == "running-on" else load_template(template)
    chooser = pointer(tokenizer, used)
    texts = [
        "Mara works for Zorba.",
        "Zorba <|eot_id|> near the sea.",
        "Zorba.",
        "Zorba.",
        "</s> in Freedonia",
    ]
    asked = task_of(*texts)
    encoded = chooser.encoded(asked)
    assert encoded.ids == used.encode(
        chooser.model.tokenizer, asked.question.question, asked.candidates.passages, 2, chooser.budget
    )
    assert encoded.ends == sorted(set(encoded.ends)) and encoded.ends[-1] < len(encoded.ids) - 1
    decode = chooser.model.tokenizer.hf.decode
    for i, end in enumerate(encoded.ends):
        read = "".join(decode(encoded.ids[: end + 1]).split()).removesuffix("<unk>").rstrip(":")
        assert read.endswith(("Zorba.", "sea.", "Zorba.", "Zorba.", "Freedonia")[i])
        assert read.count("Zorba.") == (1, 1, 2, 3, 3)[i]


@pytest.mark.parametrize("stop", [False, True])
def test_all_lists_have_probability_1_and_are_what_the_definition_says(stop: bool) -> None:
    """In float64, one plain forward pass, cosines and Plackett-Luce written out."""
    chooser, task = pointer(stop=stop), pocket_tasks(1, 5)[0]
    lists = all_lists(5, 2, stop=stop)
    assert lists is not None
    values = chooser.log_prob(task, lists, 10_000)
    encoded, projections = chooser.encoded(task), chooser.model.projections
    assert projections is not None
    hf, projections = chooser.model.hf.double(), projections.double()
    states = hf.model(input_ids=torch.tensor([encoded.ids])).last_hidden_state[0]
    query = projections.query @ states[-1]
    query = query / query.norm()
    scores = []
    for end in encoded.ends:
        passage = projections.passage @ states[end]
        scores.append(projections.log_scale.exp() * (passage @ query) / passage.norm())
    enough = torch.stack(scores).mean() + projections.log_scale.exp() * (projections.enough @ query)
    expected = []
    for z in lists:
        left, total = set(range(5)), torch.zeros((), dtype=torch.float64)
        for place, index in enumerate(z):
            among = [scores[i] for i in left] + [enough] * (stop and place > 0)
            total = total + scores[index] - torch.stack(among).logsumexp(0)
            left -= {index}
        if stop and len(z) < 2:
            total = total + enough - torch.stack([*(scores[i] for i in left), enough]).logsumexp(0)
        expected.append(float(total.detach()))
    assert sum(map(np.exp, expected)) == pytest.approx(1, abs=1e-12)
    assert float(np.std(np.exp(expected))) > 0.01  # all alike would prove little
    assert values == pytest.approx(expected, abs=1e-4)


def test_what_is_sampled_said_and_scored_agree_whatever_is_beside_a_question() -> None:
    chooser = pointer(k=3)
    tasks = pocket_tasks(4, 5)
    tasks[1] = Task(tasks[1].question, Candidates("q1", tasks[1].candidates.passages[:2]))
    uniforms = [np.random.default_rng(i).random((6, chooser.choices_per_list)) for i in range(4)]
    together = chooser.sample(tasks, uniforms, temperature=1.3, max_tokens=10_000)
    for i, task in enumerate(tasks):
        (alone,) = chooser.sample([task], [uniforms[i]], temperature=1.3, max_tokens=1)
        assert [d.permutation for d in alone] == [d.permutation for d in together[i]]
        assert [d.log_proposal for d in alone] == pytest.approx(
            [d.log_proposal for d in together[i]], abs=1e-5
        )
        values = chooser.log_prob(task, [d.permutation for d in alone], 10_000)
        assert values == pytest.approx([d.log_prior for d in alone], abs=1e-5)
    assert {len(d.permutation) for d in together[1]} == {2}
    selected = chooser.greedy(tasks, 10_000)
    surveyed = chooser.survey(tasks, uniforms, 200)
    assert [s.permutation for s in selected] == [s.permutation for s, _, _ in surveyed]
    for (selection, first, _), log_p in zip(surveyed, chooser.first_choices(tasks, 10_000), strict=True):
        assert first == pytest.approx(log_p, abs=1e-5)
        assert selection.probabilities is not None
        assert selection.probabilities[0] == pytest.approx(np.exp(max(log_p)), abs=1e-5)


def test_padding_changes_no_log_probability_or_gradient() -> None:
    chooser, tasks = pointer(), pocket_tasks(3, 5)
    tasks[0] = Task(tasks[0].question, Candidates("q0", tasks[0].candidates.passages[:3]))
    lists = list(permutations(range(3), 2))
    groups = [chooser.group(task, lists) for task in tasks]
    assert len({len(g) for g in groups}) > 1
    model = chooser.model
    assert model.projections is not None
    parameters = [*model.hf.get_decoder().parameters(), *model.projections.parameters()]

    def gradient(values: list[torch.Tensor]) -> torch.Tensor:
        weights = torch.linspace(-1, 1, len(lists))
        total = torch.stack([(weights * v).sum() for v in values]).sum()
        parts = torch.autograd.grad(total, parameters, allow_unused=True)
        return torch.cat([p.flatten() for p in parts if p is not None])

    together = log_probs(model, groups)
    apart = [log_probs(model, [group])[0] for group in groups]
    for a, b in zip(together, apart, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    expected = gradient(apart)
    assert (gradient(together) - expected).norm() < 1e-4 * expected.norm()


def test_a_template_that_reads_passages_without_the_question_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"selector\.prompt: .* take pointer or tiny-pointer"):
        pointer(template=load_template("tiny-selector"))
    with pytest.raises(ConfigError, match=r"needs words behind \{passages\}"):
        pointer(template=PromptTemplate("{question}\n{passages}", "{text}")).encoded(pocket_tasks(1, 5)[0])


def test_projections_of_another_width_are_rows_at_right_angles_and_too_wide_ones_refused() -> None:
    from ragdro.lm.projections import Projections

    made = Projections(32, 8, seed=3)
    assert torch.allclose(made.passage @ made.passage.T, torch.eye(8), atol=1e-6)
    assert torch.equal(made.passage, Projections(32, 8, seed=3).query)
    with pytest.raises(ConfigError, match=r"selector\.pointer\.width: 40"):
        Projections(32, 40)


def test_an_engine_or_a_slow_tokenizer_is_refused() -> None:
    chooser, task = pointer(), pocket_tasks(1, 5)[0]
    another: Any = partial(branch_decoder)
    with pytest.raises(ConfigError, match=r"e_step\.engine"):
        chooser.sample([task], [np.zeros((1, 2))], temperature=1.0, max_tokens=99, decoder=another)
    vocabulary = chooser.model.tokenizer.vocabulary
    vocabulary._full = None
    with pytest.raises(ModelError, match="a fast one"):
        vocabulary.joined_with_ends(("a", "b", "c"))
