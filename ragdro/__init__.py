"""ragdro: train the selector and the generator of a retrieval-augmented system together.

The public names below load what they need when they are first used, so that `import ragdro` is light.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragdro.algorithms.estimates import bound, effective_sample_size, importance_weights
    from ragdro.config import Config, load_config
    from ragdro.data import load_questions, read_corpus
    from ragdro.errors import RagdroError
    from ragdro.generation.generator import Generator
    from ragdro.retrieval.over import retriever_over
    from ragdro.rewriting.rewriter import Rewriter
    from ragdro.runs.load import load
    from ragdro.runs.run import run
    from ragdro.selection.selector import Selector
    from ragdro.system import Rag
    from ragdro.training.callbacks import Callback
    from ragdro.training.em import train
    from ragdro.types import Candidates, Passage, Prediction, Question

_HOMES = {
    "Callback": "ragdro.training.callbacks",
    "Candidates": "ragdro.types",
    "Config": "ragdro.config",
    "Generator": "ragdro.generation.generator",
    "Passage": "ragdro.types",
    "Prediction": "ragdro.types",
    "Question": "ragdro.types",
    "Rag": "ragdro.system",
    "RagdroError": "ragdro.errors",
    "Rewriter": "ragdro.rewriting.rewriter",
    "Selector": "ragdro.selection.selector",
    "bound": "ragdro.algorithms.estimates",
    "effective_sample_size": "ragdro.algorithms.estimates",
    "importance_weights": "ragdro.algorithms.estimates",
    "load": "ragdro.runs.load",
    "load_config": "ragdro.config",
    "load_questions": "ragdro.data",
    "read_corpus": "ragdro.data",
    "retriever_over": "ragdro.retrieval.over",
    "run": "ragdro.runs.run",
    "train": "ragdro.training.em",
}
__all__ = [
    "Callback",
    "Candidates",
    "Config",
    "Generator",
    "Passage",
    "Prediction",
    "Question",
    "Rag",
    "RagdroError",
    "Rewriter",
    "Selector",
    "bound",
    "effective_sample_size",
    "importance_weights",
    "load",
    "load_config",
    "load_questions",
    "read_corpus",
    "retriever_over",
    "run",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("ragdro")
    if name not in _HOMES:
        raise AttributeError(f"module 'ragdro' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
