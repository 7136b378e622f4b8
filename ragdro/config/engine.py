"""What draws the E-step's permutations: our own forward passes, vLLM, or a server that is already deployed.

Written `engine: vllm` or, with settings of its own, `engine: {kind: openai-compatible, url: …}`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag

from ragdro.config.base import Settings, kind_or, named
from ragdro.config.http import HttpService


class TransformersEngine(Settings):
    """The model that is trained, as it stands in this process."""

    kind: Literal["transformers"] = "transformers"


class VllmEngine(Settings):
    """vLLM in this process, on the device of the run; it gets the selector's weights for every E-step."""

    kind: Literal["vllm"] = "vllm"
    memory: float = Field(0.4, gt=0, lt=1, description="fraction of the GPU that vLLM takes while it samples")
    tensor_parallel: int = Field(1, ge=1, description="GPUs that vLLM spreads the selector over")


class OpenAiEngine(HttpService):
    """A server that speaks OpenAI's completions protocol with vLLM's additions; it keeps its weights."""

    kind: Literal["openai-compatible"] = "openai-compatible"
    model: str = Field(description="the model's name on the server: a selector with the same tokenizer")
    concurrency: int = Field(4, ge=1, description="requests under way at once, of up to 64 beginnings each")
    timeout_seconds: float = Field(
        300.0, gt=0, description="longest wait for one reply; a server compiles something for its first"
    )


EngineSettings: TypeAlias = Annotated[
    Annotated[
        Annotated[TransformersEngine, Tag("transformers")]
        | Annotated[VllmEngine, Tag("vllm")]
        | Annotated[OpenAiEngine, Tag("openai-compatible")],
        Discriminator(
            kind_or("transformers"),
            custom_error_type="engine",
            custom_error_message="must be transformers, vllm or openai-compatible",
        ),
    ],
    BeforeValidator(named),
]
"""Settings of any engine, or its name alone."""
