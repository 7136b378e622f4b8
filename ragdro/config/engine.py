"""What draws the E-step's permutations: our own forward passes, vLLM here or as a server, or another server.

Written `engine: vllm` or, with settings of its own, `engine: {kind: openai-compatible, url: …}`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Tag

from ragdro.config.base import Settings, kind_or, named
from ragdro.config.http import HttpService, Patience


class TransformersEngine(Settings):
    """The model that is trained, as it stands in this process."""

    kind: Literal["transformers"] = "transformers"


class VllmEngine(Settings):
    """vLLM beside the model that is trained, on the device of the run; it gets the selector's weights for
    every E-step."""

    kind: Literal["vllm"] = "vllm"
    memory: float = Field(0.4, gt=0, lt=1, description="fraction of the GPU that vLLM takes while it samples")
    tensor_parallel: int = Field(1, ge=1, description="GPUs that vLLM spreads the selector over")
    arguments: dict[str, JsonValue] = Field(
        {}, description="further arguments of `vllm.LLM`, which win over those that the run gives"
    )


class VllmServerEngine(Patience):
    """A vLLM server that the run starts on GPUs of its own and stops; it gets the selector's weights (or its
    adapter) for every E-step, and all processes of the run ask it."""

    kind: Literal["vllm-server"] = "vllm-server"
    gpus: tuple[Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern="^(GPU|MIG)-")], ...] = Field(
        (), description="the GPUs that it takes, by their numbers on this machine or by UUID; none: a CPU"
    )
    command: str = Field("vllm", min_length=1, description="vLLM's command, or a path to it")
    arguments: tuple[str, ...] = Field(
        (), description="further arguments of `vllm serve`, which win over those that the run gives"
    )
    memory: float = Field(0.9, gt=0, lt=1, description="fraction of each of its GPUs that vLLM takes")
    port: int | None = Field(None, ge=1, le=65535, description="where it listens; null: any that is free")
    start_seconds: float = Field(
        1800.0, gt=0, description="longest wait until it is ready, or until it has new weights"
    )
    concurrency: int = Field(4, ge=1, description="requests under way at once, of up to 64 beginnings each")
    timeout_seconds: float = Field(300.0, gt=0, description="longest wait for one reply")
    retries: int = Field(2, ge=0, description="further tries after time-outs, refused connections and 5xx")


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
        | Annotated[VllmServerEngine, Tag("vllm-server")]
        | Annotated[OpenAiEngine, Tag("openai-compatible")],
        Discriminator(kind_or("transformers")),
    ],
    BeforeValidator(named),
]
"""Settings of any engine, or its name alone."""
