"""What a step reads next is tokenised while it computes: nothing else changes, and it ends with the step."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, Literal

import pytest

from ragdro.algorithms import Dro
from ragdro.config import EStep, Evaluation
from ragdro.errors import ModelError
from ragdro.lm.vocabulary import Vocabulary
from ragdro.prompts.template import Budget, PromptTemplate
from ragdro.system import Rag, reading
from ragdro.training import e_step as module
from ragdro.training import evaluate, prefetch
from ragdro.training.e_step import answer_log_likelihoods, e_step
from ragdro.training.prefetch import tokenised_meanwhile
from ragdro.training.proposals import proposals
from ragdro.types import Draw, Task, WeightedTask
from tests.worlds import pocket_rag, pocket_tasks


def weighted(rag: Rag, tasks: Sequence[Task], **changes: Any) -> list[WeightedTask]:
    options = {"propose": proposals(Dro(), EStep(samples=8), 3, 1), "questions_per_shard": 2, **changes}
    return e_step(rag.selector, rag.generator, tasks, max_tokens=2000, **options)


class Seen:
    """The questions that threads tokenise, by template; `is_tokenised` waits until one is."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked, self._changed = list[tuple[PromptTemplate, str]](), threading.Condition()
        work = PromptTemplate.tokenise

        def tokenise(template: PromptTemplate, tokenizer: Any, question: str, *rest: Any) -> None:
            assert threading.current_thread() is not threading.main_thread()
            work(template, tokenizer, question, *rest)
            with self._changed:
                self.asked.append((template, question))
                self._changed.notify_all()

        patch.setattr(PromptTemplate, "tokenise", tokenise)

    def is_tokenised(self, template: PromptTemplate, task: Task) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: (template, task.question.question) in self.asked, 30)

    def questions(self, template: PromptTemplate) -> list[str]:
        return [question for own, question in self.asked if own is template]


@pytest.mark.parametrize("kind", ["list", "pointer"])
@pytest.mark.parametrize("attention", ["full", "blocks"])
def test_what_is_computed_and_counted_is_the_same_to_the_last_bit(
    kind: str, attention: Literal["full", "blocks"], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    for ahead in (True, False):
        if not ahead:
            for place in (module, evaluate):
                monkeypatch.setattr(place, "tokenised_meanwhile", lambda *_: nullcontext())
        rag, tasks = pocket_rag(kind=kind, passage_attention=attention), pocket_tasks(5, 5)
        drawn = evaluate.draw(rag, Dro(), Evaluation(samples=4, tight_samples=8, tight_questions=2), 3, tasks)
        counts = [asdict(one.template.counts) for one in (rag.selector, rag.generator)]
        computed.append((weighted(rag, tasks), drawn, counts))
    assert computed[0] == computed[1]


def test_lists_are_drawn_beside_the_readers_texts_and_scored_beside_the_next_shards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rag, tasks, seen = pocket_rag(), pocket_tasks(5, 5), Seen(monkeypatch)
    templates, shards = (rag.selector.template, rag.generator.template), [tasks[:2], tasks[2:4], tasks[4:]]
    draw, done = proposals(Dro(), EStep(samples=8), 3, 1), [0]

    def propose(selector: Any, local_tasks: Sequence[Task]) -> list[list[Draw]]:
        assert list(local_tasks) == shards[done[0]]
        assert all(seen.is_tokenised(templates[1], task) for task in local_tasks)
        return draw(selector, local_tasks)

    def score(*arguments: Any) -> list[list[float]]:
        done[0] += 1
        following = shards[done[0]] if done[0] < len(shards) else []
        assert all(seen.is_tokenised(templates[0], task) for task in following)
        assert len(seen.questions(templates[0])) == min(2 * done[0], 3)  # of one shard ahead, and no more
        return answer_log_likelihoods(*arguments)

    weighted(rag, tasks, propose=propose, score=score)
    names = [task.question.question for task in tasks]
    assert seen.questions(templates[0]) == names[2:] and seen.questions(templates[1]) == names
    seen.asked.clear()
    weighted(rag, tasks, selects=False)
    assert not seen.questions(templates[0])


@pytest.mark.parametrize("attention", ["full", "blocks"])
@pytest.mark.parametrize("ahead", [True, False])
def test_what_was_tokenised_is_not_tokenised_for_a_prompt_of_any_of_the_passages(
    ahead: bool, attention: Literal["full", "blocks"], monkeypatch: pytest.MonkeyPatch
) -> None:
    rag, (task,), seen = pocket_rag(passage_attention=attention), pocket_tasks(1, 5), Seen(monkeypatch)
    rag.generator.budget = Budget(64, 96)  # no text is cut
    if ahead:
        with tokenised_meanwhile(rag.generator, [task]):
            assert seen.is_tokenised(rag.generator.template, task)
    texts, joined = list[str](), Vocabulary.joined_many

    def joined_many(own: Vocabulary, parts: Any) -> list[list[int]]:
        texts.extend("".join(one) for one in parts)
        return joined(own, parts)

    monkeypatch.setattr(Vocabulary, "joined_many", joined_many)
    rag.generator.group([reading(task, z) for z in ((4, 2), (2, 4), (0, 3))])
    again = {p.id for text in texts for p in task.candidates.passages if p.text in text}
    assert again == (set() if ahead else {"0-0", "0-2", "0-3", "0-4"})


def test_what_a_thread_raises_comes_behind_the_step_and_the_steps_own_error_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rag, tasks, raised = pocket_rag(), pocket_tasks(2, 5), threading.Event()

    def fails(*_: Any) -> None:
        raised.set()
        raise ModelError("no template")

    monkeypatch.setattr(PromptTemplate, "tokenise", fails)
    with pytest.raises(ModelError, match="no template"), tokenised_meanwhile(rag.generator, tasks):
        assert raised.wait(30)
    with pytest.raises(KeyboardInterrupt), tokenised_meanwhile(rag.generator, tasks):
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_step_that_ends_takes_its_thread_along(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rag, tasks, begun, asked = pocket_rag(), pocket_tasks(6, 5), threading.Event(), list[str]()
    ended = threading.Event()

    def tokenise(template: Any, tokenizer: Any, question: str, *_: Any) -> None:
        asked.append(question)
        begun.set()
        assert ended.wait(30)

    monkeypatch.setattr(PromptTemplate, "tokenise", tokenise)
    ends = pytest.raises(error) if error else nullcontext()
    with ends, tokenised_meanwhile(rag.selector, tasks):
        assert begun.wait(30)
        threading.Timer(0.2, ended.set).start()  # behind the block
        if error:
            raise error
    assert len(asked) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tokenise")]


def test_no_more_is_tokenised_ahead_than_a_tokenizer_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    rag, tasks, seen = pocket_rag(), pocket_tasks(5, 5), Seen(monkeypatch)
    monkeypatch.setattr(prefetch, "_AHEAD", 3)
    with tokenised_meanwhile(rag.selector, tasks):
        assert seen.is_tokenised(rag.selector.template, tasks[2])
    assert len(seen.asked) == 3
