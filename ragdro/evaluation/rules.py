"""The rules that a verdict is made from, one function each; docs/how-to/report.md has them as a table.

In: `Evidence`. Out: one sentence, or None where the rule sees nothing. A rule that cannot know (what it looks
at was not measured) sees nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ragdro.evaluation.evidence import Evidence, Finder
from ragdro.units import counted, number

Kind: TypeAlias = Literal["cause", "note"]

WORTH_SEEING = 0.05
"""A true difference that questions should be enough to see."""
MANY = 0.1
"""A larger fraction of texts cut, answers empty or questions impossible is a fault."""
LOW_CEILING = 0.5
"""Candidates that hold what is needed for fewer questions than this leave little to select."""
NEAR_CEILING = 0.95
"""A selection that reads so much of what the candidates hold has no more to gain."""
WEAK = 0.5
"""A generator that answers fewer than this right though it read what it needs is weak."""
ENOUGH = 10
"""Fewer questions than this say nothing about a fraction of them."""
MEMORISED_NATS = 0.5
"""The training bound may lie so far above the held-out one."""
MEMORISED_SIZE = 0.1
"""The effective sample size, as a fraction of m, may be so much larger in training than held out."""
LEVEL_SIZE = 0.95
"""With a larger effective sample size, as a fraction of m, all lists weigh the same."""
AT_CHANCE = 0.9
"""With a larger entropy, as a fraction of the largest there is, a selector draws at random."""
STUCK_LISTS = 1.05
"""A selector that hesitates between fewer lists than this, exp(entropy), draws one list always."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`cause`: why a run is no better, or what is left to gain; `note`: how far to trust its numbers."""

    name: str
    kind: Kind
    find: Finder
    advice: str


def empty_answers(e: Evidence) -> str | None:
    """The generator says nothing."""
    if e.silent <= MANY:
        return None
    return f"{number(e.silent)} of the answers are empty"


def cut(e: Evidence) -> str | None:
    """Texts are cut to their token limits."""
    parts = ", ".join(f"{number(fraction)} of {what}" for what, fraction in e.cut.items() if fraction > MANY)
    return f"texts are cut to their token limits: {parts}" if parts else None


def low_ceiling(e: Evidence) -> str | None:
    """The retriever does not find what is needed."""
    if e.ceiling is None or e.ceiling >= LOW_CEILING:
        return None
    held = f"hold what is needed for {number(e.ceiling)} of the questions"
    return f"the retriever's {counted(e.candidates, 'candidates')} {held}"


def weak_generator(e: Evidence) -> str | None:
    """The generator errs though it read what it needs."""
    if e.context_use is None or e.read_questions < ENOUGH or e.context_use >= WEAK:
        return None
    return (
        f"the generator answers {number(e.context_use)} right of the {counted(e.read_questions)} for which it"
        " read what is needed"
    )


def memorised(e: Evidence) -> str | None:
    """The generator knows the training answers whatever it reads."""
    gap, sizes = _gap(e), _sizes(e)
    if gap is None or sizes is None or gap < MEMORISED_NATS or sizes[0] - sizes[1] < MEMORISED_SIZE:
        return None
    return (
        "the generator has memorised training answers: its bound is"
        f" {number(e.training['bound'])} nats in training and {number(e.held_out['bound'])} held out, and in"
        " training all lists weigh the same (effective sample size"
        f" {number(e.training['effective_sample_size'])} of {e.samples})"
    )


def level_weights(e: Evidence) -> str | None:
    """The generator finds the answer as likely after any list (of one list, drawn often, it says nothing)."""
    size, entropy = e.training.get("effective_sample_size"), e.training.get("selector_entropy")
    if entropy is not None and entropy < math.log(STUCK_LISTS):
        return None
    if not e.selects or e.samples < 2 or size is None or size < LEVEL_SIZE * e.samples:
        return None
    if e.score(e.best) >= WEAK or memorised(e):
        return None
    size_of = f"effective sample size {number(size)} of {e.samples}"
    return f"to the generator the answer is as likely after one list as after another ({size_of})"


def at_chance(e: Evidence) -> str | None:
    """The selector draws lists at random."""
    entropy = e.fitted.get("selector_entropy")
    if not e.selects or entropy is None or entropy < AT_CHANCE * e.most_entropy:
        return None
    said = f"entropy {number(entropy)} of at most {number(e.most_entropy)} nats"
    return f"the selector draws lists nearly at random ({said})"


def stuck(e: Evidence) -> str | None:
    """The selector draws one list always, and not what is needed."""
    entropy = e.training.get("selector_entropy")
    if not e.selects or e.samples < 2 or entropy is None or entropy >= math.log(STUCK_LISTS):
        return None
    if _at_its_ceiling(e):
        return None
    return (
        f"the selector draws the same list nearly every time (entropy {number(entropy)} nats) and has stopped"
        f" learning, though its lists hold what is needed for {number(e.read)} of the questions only"
    )


def no_better_order(e: Evidence) -> str | None:
    """The selector's lists are no better than the retriever's order."""
    if not e.selects or _at_its_ceiling(e) or e.gain_of_reading.low > 0:
        return None
    return (
        f"the selector's lists hold what is needed for {number(e.read)} of the questions, the retriever's"
        f" first {e.selected} for {number(e.read_in_order)}"
    )


def near_ceiling(e: Evidence) -> str | None:
    """The selection has nothing left to gain."""
    if e.ceiling is None or e.ceiling > 1 - MANY or e.ceiling < LOW_CEILING or not _at_its_ceiling(e):
        return None
    return (
        f"the lists hold what is needed for {number(e.read)} of the questions, the candidates for"
        f" {number(e.ceiling)}: no selection can do better"
    )


def impossible(e: Evidence) -> str | None:
    """Training answers that the generator finds impossible."""
    count, questions = e.training.get("impossible_questions"), e.training.get("questions")
    if not count or not questions or count <= MANY * questions:
        return None
    return (
        f"the generator finds the answer of {number(count / questions)} of the training questions impossible"
    )


def warm_up_best(e: Evidence) -> str | None:
    """No iteration was better than the warm-up."""
    if not e.iterations or e.best_iteration:
        return None
    done = counted(e.iterations, "iterations")
    return f"none of {done} was better on the validation questions than the warm-up"


def few_questions(e: Evidence) -> str | None:
    """Too few questions to tell."""
    if not _is_open(e) or e.detectable <= WORTH_SEEING:
        return None
    too_few = f"{counted(e.questions)} {'is' if e.questions == 1 else 'are'}"
    seen = "a difference of any size" if e.detectable >= 1 else f"one below {number(e.detectable)}"
    return f"{too_few} too few to see {seen}; {WORTH_SEEING} takes about {e.questions_for(WORTH_SEEING):,}"


def validation_as_test(e: Evidence) -> str | None:
    """What is reported also chose the iteration."""
    if e.split == "test" or not e.iterations:
        return None
    return "the questions measured are those that chose the best iteration, so its score is a little too good"


def single_seed(e: Evidence) -> str | None:
    """One run."""
    if e.seeds > 1:
        return None
    return "one seed: the interval is over questions and does not contain how much another seed would differ"


def stopped_early(e: Evidence) -> str | None:
    """Early stopping."""
    if e.iterations >= e.planned:
        return None
    done = f"{e.iterations} of {counted(e.planned, 'iterations')}"
    return f"stopped after {done}: the validation questions saw no better one"


def still_rising(e: Evidence) -> str | None:
    """The last iteration was the best."""
    if not e.iterations or e.best_iteration < e.planned or e.iterations < e.planned:
        return None
    return "the last iteration was the best one: more of them may bring more"


def skipped(e: Evidence) -> str | None:
    """Updates that were not finite."""
    if not e.skipped_updates:
        return None
    return (
        f"{counted(e.skipped_updates, 'updates')} had a loss or gradient that is not finite and were left out"
    )


RULES: tuple[Rule, ...] = (
    Rule("empty answers", "cause", empty_answers, "a longer warm-up of the generator (warm_up.generator)"),
    Rule("cut texts", "cause", cut, "higher token limits (the settings named)"),
    Rule(
        "low ceiling", "cause", low_ceiling, "another retriever (ragdro config retriever) or a larger top_n"
    ),
    Rule(
        "weak generator",
        "cause",
        weak_generator,
        "a stronger generator.model, more training questions, or a longer warm_up.generator",
    ),
    Rule(
        "memorised",
        "cause",
        memorised,
        "cross_fitted=true, a lower m_step.generator.learning_rate, or more training questions",
    ),
    Rule(
        "level weights",
        "cause",
        level_weights,
        "a longer warm_up.generator, so that it reads what it is given",
    ),
    Rule(
        "selector at chance",
        "cause",
        at_chance,
        "a warm-up of the selector (warm_up.selector) or a higher m_step.selector.learning_rate",
    ),
    Rule(
        "selector stuck",
        "cause",
        stuck,
        "objective=dro-centered, e_step.mixture, or a lower m_step.selector.learning_rate",
    ),
    Rule(
        "no better than the retriever's order",
        "cause",
        no_better_order,
        "more iterations or e_step.samples, or a warm-up by a teacher's ranking (docs/how-to/models.md)",
    ),
    Rule(
        "at the ceiling",
        "cause",
        near_ceiling,
        "another retriever (ragdro config retriever) or a larger top_n",
    ),
    Rule(
        "impossible answers", "cause", impossible, "dtype=float32, or a lower m_step.generator.learning_rate"
    ),
    Rule("warm-up best", "cause", warm_up_best, "lower learning rates in m_step, or more training questions"),
    Rule("too few questions", "cause", few_questions, "more test questions (data.test)"),
    Rule("validation used as test", "note", validation_as_test, "questions of their own for data.test"),
    Rule("single seed", "note", single_seed, "other seeds (seed=1, seed=2)"),
    Rule("stopped early", "note", stopped_early, "patience=null, to see the other iterations"),
    Rule("still rising", "note", still_rising, "more iterations"),
    Rule("skipped updates", "note", skipped, "a lower learning rate (bad_batches/ has the questions)"),
)


def _gap(e: Evidence) -> float | None:
    """Of the bounds in training and held out; None where the former has more samples: they make it larger."""
    above, below = e.training.get("bound"), e.held_out.get("bound")
    more = e.samples > e.held_out_samples
    return None if more or above is None or below is None else above - below


def _sizes(e: Evidence) -> tuple[float, float] | None:
    """The effective sample sizes in training and held out, as fractions of m."""
    sizes = e.training.get("effective_sample_size"), e.held_out.get("effective_sample_size")
    if sizes[0] is None or sizes[1] is None:
        return None
    return sizes[0] / e.samples, sizes[1] / e.held_out_samples


def _at_its_ceiling(e: Evidence) -> bool:
    return e.read >= NEAR_CEILING * (1.0 if e.ceiling is None else e.ceiling)


def _is_open(e: Evidence) -> bool:
    """Whether the interval of the difference from vanilla RAG holds 0."""
    return e.gain.low <= 0 <= e.gain.high
