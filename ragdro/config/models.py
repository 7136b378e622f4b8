"""Settings of the two models: what is loaded, and what it gets to read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from ragdro.config.base import Settings, named


class ScratchModel(Settings):
    """A model initialised at random, with a tokenizer trained on the corpus: for where no weights are."""

    architecture: Literal["llama", "mistral", "qwen2", "qwen3"] = Field("llama", description="model type")
    vocabulary: int = Field(8192, ge=300, description="entries of the byte-level BPE vocabulary")
    width: int = Field(256, ge=8, description="hidden size")
    layers: int = Field(4, ge=1, description="decoder layers")
    heads: int = Field(4, ge=1, description="attention heads (and key-value heads)")
    positions: int = Field(4096, ge=64, description="longest sequence")


class LoraAdapter(Settings):
    """Low-rank updates of the base's matrices (LoRA, through PEFT); they alone are trained and saved."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(16, ge=1, description="rank of an update")
    alpha: float = Field(32.0, gt=0, description="an update counts alpha / rank times")
    dropout: float = Field(0.0, ge=0, lt=1, description="fraction of an update's inputs left out in training")
    targets: Annotated[list[str], Field(min_length=1)] | Literal["all-linear"] = Field(
        "all-linear", description="names of the modules updated; 'all-linear': all but the output embeddings"
    )


Adapter: TypeAlias = Annotated[LoraAdapter, BeforeValidator(named)]
"""An adapter's settings, or its name alone."""


class ModelSettings(Settings):
    """What both roles have in common."""

    model: str | None = Field(
        None, description="hub name or folder of a causal LM; 'tiny:base' for the embedded one"
    )
    scratch: ScratchModel | None = Field(None, description="in place of `model`: start from random weights")
    layers: int | None = Field(
        None, ge=1, description="keep only the model's first decoder layers, this many; null for all"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="dtype of frozen weights and of matrix products; weights that are trained are float32",
    )
    amp: Literal["auto", "off", "bfloat16"] = Field(
        "auto",
        description="products over float32 weights, an adapter's too: bfloat16 on a GPU that has it where"
        " 'auto', else `dtype`",
    )
    adapter: Adapter | None = Field(
        None, description="'lora', or a mapping with its settings; null: every weight is trained"
    )
    quantisation: Literal["4bit"] | None = Field(
        None, description="the frozen base's weights in 4 bits (QLoRA); needs an adapter and bitsandbytes"
    )
    attention: Literal["sdpa", "eager"] = Field("sdpa", description="attention kernel")
    kernels: Literal["torch", "liger"] = Field(
        "torch",
        description="what computes norms and feed-forward layers; 'liger': fused Triton kernels, on an NVIDIA"
        " GPU, with liger-kernel installed",
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations to save memory")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")
    revision: str | None = Field(None, description="hub revision")
    chat_template: str | None = Field(
        None, description="which of the tokenizer's chat templates; null: its default; 'none': plain prompts"
    )
    chat_arguments: dict[str, str | int | float | bool] = Field(
        {}, description="what the chat template is given besides, such as {reasoning_effort: low}"
    )
    answer_prefix: str | None = Field(
        None,
        description="what a chat turn's output is written behind, such as '</think>'; null: what the chat"
        " template itself writes there",
    )
    prompt_date: date | None = Field(
        None, description="the day that a chat template takes for today's; null: that of the run's beginning"
    )
    question_tokens: int = Field(
        128,
        ge=1,
        description="longest question, in tokens; a dialogue loses its first turns, others their end",
    )
    passage_tokens: int = Field(180, ge=4, description="longest passage (title and text), in tokens")

    @model_validator(mode="after")
    def _one_source(self) -> ModelSettings:
        if (self.model is None) == (self.scratch is None):
            raise ValueError("give either `model` or `scratch`")
        return self

    @model_validator(mode="after")
    def _four_bits_are_frozen(self) -> ModelSettings:
        if self.quantisation is not None and self.adapter is None:
            raise ValueError("quantisation: weights of 4 bits cannot be trained; give an `adapter` too")
        return self


class PointerProjections(Settings):
    """How a pointer selector scores passages."""

    score: Literal["states", "attention"] = Field(
        "states",
        description="'states': by the cosine of projected hidden states; 'attention': by how much the"
        " question's tokens attend to a passage's, a learned weight for each of the model's attention heads:"
        " a pretrained model needs a few hundred questions for that, and no training of its own",
    )
    frozen: bool = Field(
        False, description="train the projections or the heads' weights alone; the model stays as it is"
    )
    scale: float = Field(
        10.0, gt=0, description="of 'states': what the cosine is multiplied by at first, learned from there"
    )
    width: int | None = Field(
        None,
        ge=1,
        description="of 'states': the projected ones' size; null: the model's hidden size, from the identity",
    )


class SelectorSettings(ModelSettings):
    """The selector: reads all candidates, gives an ordered list of K of them a probability."""

    kind: Literal["list", "pointer"] = Field(
        "list",
        description="'list' writes identifiers (the paper's); 'pointer' scores all passages in one pass:"
        " faster, and easier for a small model to learn",
    )
    pointer: PointerProjections = Field(PointerProjections(), description="for kind: pointer")
    k: int = Field(5, ge=1, description="passages selected (K)")
    stop: bool = Field(False, description="the selector may stop early: K passages at most, one at least")
    prompt: str = Field(
        "selector",
        description="template by name, or path of a YAML file; of a pointer by default 'pointer'",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_prompt(cls, values: Any) -> Any:
        """A pointer reads another prompt, unless one is named."""
        if isinstance(values, Mapping) and values.get("kind") == "pointer" and "prompt" not in values:
            return {**values, "prompt": "pointer"}
        return values


PassageAttention: TypeAlias = Literal["full", "blocks", "blocks-then-full"]
"""What a passage sees, in training and where answers are read."""
LinkedTokens: TypeAlias = Literal["last", "first"]
"""Which tokens of a passage see what stands before it, where it is read in blocks."""


class RewriterSettings(ModelSettings):
    """The rewriter: reads the question and what was read, writes the next query, or that there is enough."""

    query_tokens: int = Field(32, ge=1, description="longest query, in tokens, its end token among them")
    prompt: str = Field("rewriter", description="template by name, or path of a YAML file")


class GeneratorSettings(ModelSettings):
    """The generator: reads the selected passages, writes the answer."""

    answer_tokens: int = Field(32, ge=1, description="longest answer, in tokens")
    order: Literal["selected", "retriever"] = Field(
        "selected", description="of the passages it reads; by the retriever's rank, a list is but a set"
    )
    passage_attention: PassageAttention = Field(
        "full",
        description="what a passage sees: all that stands before it, or itself alone ('blocks'): then each"
        " passage is computed once for all lists of a question, and the question and the answer see them all;"
        " 'blocks-then-full' is trained with both in turn and computes in blocks elsewhere",
    )
    full_layers: int = Field(
        0,
        ge=0,
        description="of blocks: so many of the model's last layers (two or more) see all that stands before a"
        " token; in them a passage is computed once for each beginning of a list",
    )
    link_tokens: int = Field(
        0,
        ge=0,
        description="of blocks: so many tokens at the end of each passage see all that stands before them;"
        " they alone are computed once for each list",
    )
    linked: LinkedTokens = Field(
        "last",
        description="which ones `link_tokens` counts: 'last', or 'first', a passage's first tokens, which are"
        " computed once more for each list; the rest of the passage has read them as they are alone",
    )
    passage_memory: float = Field(
        0.0,
        ge=0,
        description="GiB for the keys and values of passages read in blocks, kept from question to question"
        " for as long as the weights are the same; 0: none are kept",
    )
    think: int = Field(
        0,
        ge=0,
        description="tokens of the longest thought that is written before the answer, its end token among"
        " them; 0 or null: there is none; docs/explanation/paths.md",
    )
    prompt: str = Field(
        "generator",
        description="template by name, or path of a YAML file; where a thought comes first by default"
        " 'thinking'",
    )

    @model_validator(mode="before")
    @classmethod
    def _thinking_prompt(cls, values: Any) -> Any:
        """A thought is asked for by another prompt, unless one is named."""
        if not isinstance(values, Mapping):
            return values
        values = {k: v for k, v in values.items() if k != "think" or v is not None}
        return {**({"prompt": "thinking"} if values.get("think") else {}), **values}

    @model_validator(mode="after")
    def _blocks_need_sdpa(self) -> GeneratorSettings:
        if self.passage_attention != "full" and self.attention != "sdpa":
            raise ValueError(f"passage_attention: {self.passage_attention} needs `attention: sdpa`")
        return self

    @model_validator(mode="after")
    def _blocks_are_kept(self) -> GeneratorSettings:
        if self.passage_memory and self.passage_attention == "full":
            raise ValueError("passage_memory: only passages read with `passage_attention: blocks` are kept")
        if self.full_layers and self.passage_attention == "full":
            raise ValueError("full_layers: all are with `passage_attention: full`; it goes with blocks")
        if self.link_tokens and self.passage_attention == "full":
            raise ValueError("link_tokens: all link with `passage_attention: full`; it goes with blocks")
        if self.linked == "first" and not self.link_tokens:
            raise ValueError("linked: which of the link_tokens, and there are none; set link_tokens, too")
        if self.link_tokens and self.full_layers:
            raise ValueError("link_tokens: does not go with full_layers; set one of them to 0")
        if self.full_layers == 1:
            raise ValueError(
                "full_layers: one changes nothing, for nobody reads what passages take in in the last;"
                " use 0, or 2 or more"
            )
        if self.full_layers and self.passage_memory:
            raise ValueError("passage_memory: with full_layers a passage is another in each list; use 0")
        if self.think and self.passage_attention != "full":
            raise ValueError(
                f"think: thoughts are drawn with passage_attention: full, not {self.passage_attention}; set"
                " one or the other"
            )
        return self


RoleSettings: TypeAlias = SelectorSettings | GeneratorSettings | RewriterSettings
"""The settings of some model."""
