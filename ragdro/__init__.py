"""ragdro: train the selector and the generator of a retrieval-augmented system together.

The public names below load what they need when they are first used, so that `import ragdro` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragdro.config import Config, load_config
    from ragdro.errors import RagdroError
    from ragdro.generation.generator import Generator
    from ragdro.rag import Rag
    from ragdro.selection.selector import Selector
    from ragdro.training.em import train
    from ragdro.training.reload import load

_HOMES = {
    "Config": "ragdro.config",
    "load_config": "ragdro.config",
    "RagdroError": "ragdro.errors",
    "Rag": "ragdro.rag",
    "Selector": "ragdro.selection.selector",
    "Generator": "ragdro.generation.generator",
    "train": "ragdro.training.em",
    "load": "ragdro.training.reload",
}
__all__ = ["Config", "Generator", "Rag", "RagdroError", "Selector", "load", "load_config", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ragdro' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
