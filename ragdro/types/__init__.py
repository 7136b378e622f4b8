"""The nouns of the product: what a question, a passage, a list of candidates and a sample are.

Everything here is a frozen value without behaviour beyond what follows from its own fields; nothing
imports torch. Indices into candidates are 0-based; the identifiers that models see are 1-based and
exist only in `ragdro.selection.identifiers`.
"""

from ragdro.types.answers import (
    NO_ANSWER,
    AnswerDistribution,
    Prediction,
    ProbabilityOf,
    RankedAnswer,
    Selection,
)
from ragdro.types.paths import ENOUGH, NO_THOUGHT, QuestionPath, Round, Thought
from ragdro.types.questions import (
    Candidates,
    CorpusField,
    Passage,
    PassageSource,
    Permutation,
    Question,
    QuestionField,
    Role,
    Task,
)
from ragdro.types.samples import Draw, RejectedAnswer, RelevanceLabels, WeightedSample, WeightedTask

__all__ = [
    "ENOUGH",
    "NO_ANSWER",
    "NO_THOUGHT",
    "AnswerDistribution",
    "Candidates",
    "CorpusField",
    "Draw",
    "Passage",
    "PassageSource",
    "Permutation",
    "Prediction",
    "ProbabilityOf",
    "Question",
    "QuestionField",
    "QuestionPath",
    "RankedAnswer",
    "RejectedAnswer",
    "RelevanceLabels",
    "Role",
    "Round",
    "Selection",
    "Task",
    "Thought",
    "WeightedSample",
    "WeightedTask",
]
