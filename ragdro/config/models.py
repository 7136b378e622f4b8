"""Settings of the two models: what is loaded, and what it gets to read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ragdro.config.base import Settings


class ScratchModel(Settings):
    """A model initialised at random, with a tokenizer trained on the corpus: for where no weights are."""

    architecture: Literal["llama", "mistral", "qwen2", "qwen3"] = Field("llama", description="model type")
    vocabulary: int = Field(8192, ge=300, description="entries of the byte-level BPE vocabulary")
    width: int = Field(256, ge=8, description="hidden size")
    layers: int = Field(4, ge=1, description="decoder layers")
    heads: int = Field(4, ge=1, description="attention heads (and key-value heads)")
    positions: int = Field(4096, ge=64, description="longest sequence")


class ModelSettings(Settings):
    """What both roles have in common."""

    model: str | None = Field(
        None, description="hub name or folder of a causal LM; 'tiny:base' for the embedded one"
    )
    scratch: ScratchModel | None = Field(None, description="in place of `model`: start from random weights")
    layers: int | None = Field(
        None, ge=1, description="keep only the model's first decoder layers, this many; null for all"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="dtype of the weights")
    amp: Literal["auto", "off", "bfloat16"] = Field(
        "auto",
        description="dtype of matrix products: bfloat16 on a GPU that has it where 'auto', else the weights'",
    )
    attention: Literal["sdpa", "eager"] = Field("sdpa", description="attention kernel")
    gradient_checkpointing: bool = Field(False, description="recompute activations to save memory")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")
    revision: str | None = Field(None, description="hub revision")
    question_tokens: int = Field(128, ge=1, description="longest question, in tokens; what is over is cut")
    passage_tokens: int = Field(180, ge=4, description="longest passage (title and text), in tokens")

    @model_validator(mode="after")
    def _one_source(self) -> ModelSettings:
        if (self.model is None) == (self.scratch is None):
            raise ValueError("give either `model` or `scratch`")
        return self


class SelectorSettings(ModelSettings):
    """The selector: reads all candidates, writes an ordered list of K identifiers."""

    k: int = Field(5, ge=1, description="passages selected (K)")
    prompt: str = Field("selector", description="template by name, or path of a YAML file")


class GeneratorSettings(ModelSettings):
    """The generator: reads the selected passages, writes the answer."""

    answer_tokens: int = Field(32, ge=1, description="longest answer, in tokens")
    prompt: str = Field("generator", description="template by name, or path of a YAML file")
