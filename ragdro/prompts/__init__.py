"""Prompt templates: one YAML file each, overridable by a path in the config."""

from ragdro.prompts.template import PromptTemplate, load_template

__all__ = ["PromptTemplate", "load_template"]
