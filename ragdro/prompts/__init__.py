"""Prompt templates: one YAML file each, overridable by a path in the config."""

from ragdro.prompts.load import load_template
from ragdro.prompts.template import PromptTemplate

__all__ = ["PromptTemplate", "load_template"]
