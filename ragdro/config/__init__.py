"""The config of a run: typed, closed to unknown keys, from YAML and dotted overrides. Imports no torch.

In: a YAML file and `key.sub=value` strings. Out: a frozen `Config`. Defaults and help are the fields'
own, here and in the section modules, and are written nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from ragdro.config.answering import Answering, AnsweringSettings
from ragdro.config.base import NAME, Settings
from ragdro.config.dates import with_prompt_date
from ragdro.config.load import dump_config, load_config
from ragdro.config.models import (
    GeneratorSettings,
    LoraAdapter,
    ModelSettings,
    RewriterSettings,
    RoleSettings,
    ScratchModel,
    SelectorSettings,
)
from ragdro.config.objective import Objective, ObjectiveSettings, check_proposals
from ragdro.config.paths import check_asking, check_paths
from ragdro.config.retriever import Bm25Settings, RetrieverSettings
from ragdro.config.taught import check_taught, refuse_untrainable
from ragdro.config.thinking import check_thinking
from ragdro.config.training import (
    Checkpoints,
    EStep,
    Evaluation,
    Mixture,
    MStep,
    Optimisation,
    Parallel,
    Timeouts,
    TrainingSettings,
    WarmUp,
)
from ragdro.types import CorpusField, QuestionField, Role

__all__ = [
    "Answering",
    "Checkpoints",
    "Config",
    "DataSettings",
    "EStep",
    "Evaluation",
    "GeneratorSettings",
    "LoraAdapter",
    "MStep",
    "Mixture",
    "ModelSettings",
    "Objective",
    "ObjectiveSettings",
    "Optimisation",
    "Parallel",
    "RetrieverSettings",
    "RewriterSettings",
    "RoleSettings",
    "ScratchModel",
    "SelectorSettings",
    "Settings",
    "Timeouts",
    "TrainingSettings",
    "WarmUp",
    "dump_config",
    "load_config",
    "with_prompt_date",
]


class DataSettings(Settings):
    """Where questions and passages come from; every value is a file, a folder or `hf:org/name[:split]`."""

    train: str = Field(description="questions to train on")
    validation: str = Field(description="questions that choose the best iteration")
    test: str | None = Field(
        None, description="questions whose metrics are reported; null: the validation ones"
    )
    corpus: str | None = Field(
        None, description="passages to retrieve from; null where questions bring candidates"
    )
    train_questions: int | None = Field(None, ge=1, description="take only this many; null for all")
    skip_bad: int = Field(0, ge=0, description="bad records tolerated per file")
    fields: dict[QuestionField | CorpusField, str] = Field(
        {}, description="what the files call our fields, such as {question: q, answers: a, text: body}"
    )

    @property
    def names(self) -> Mapping[str, str]:
        """What the files call our fields."""
        return {str(ours): theirs for ours, theirs in self.fields.items()}


_ITS_OWN = ("adapter", "question_tokens", "passage_tokens")
_OF_THE_BASE = tuple(key for key in ModelSettings.model_fields if key not in _ITS_OWN)
"""Of a model's settings those that say what is loaded."""


class Config(TrainingSettings):
    """Everything a run is made of; a run folder holds it resolved as `config.yaml`."""

    name: str = Field("run", pattern=NAME, description="the run folder's name")
    runs: str = Field("runs", description="the folder that holds run folders")
    cache: str = Field("runs/cache", description="folder of indexes and candidates, shared between runs")
    device: str = Field("auto", description="torch device; 'auto' takes a GPU if there is one")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads of torch; null leaves it alone")
    data: DataSettings = Field(description="questions and corpus")
    retriever: RetrieverSettings = Field(Bm25Settings(), description="where candidates come from")
    top_n: int = Field(20, ge=2, description="candidates a question has (N)")
    corrupt_candidates: float = Field(
        0,
        ge=0,
        le=1,
        description="fraction of each question's candidates replaced by random passages (a study)",
    )
    selector: SelectorSettings = Field(description="the model that chooses passages")
    generator: GeneratorSettings = Field(description="the model that answers")
    rewriter: RewriterSettings | None = Field(
        None,
        description="the model that writes queries, with `retrieval.rounds` of 2 or more or `rewrite_first`",
    )
    shared_backbone: bool = Field(
        False, description="the models are adapters on one base: its weights are in memory once"
    )
    objective: Objective = Field(
        "dro", validate_default=True, description="what is maximised; docs/reference/objectives.md"
    )
    answering: AnsweringSettings = Field(
        Answering(), description="how the trained system answers; docs/how-to/ask.md"
    )
    checkpoints: Checkpoints = Field(Checkpoints(), description="what is kept on disk")
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        [], description="where metrics.jsonl's metrics go as well"
    )

    @model_validator(mode="after")
    def _selectable(self) -> Config:
        if self.selector.k > self.top_n:
            raise ValueError(
                f"selector.k: K = {self.selector.k} is more than top_n: N = {self.top_n}; give"
                f" selector.k={self.top_n} or top_n={self.selector.k}"
            )
        return self

    @model_validator(mode="after")
    def _passages_are_not_scored(self) -> Config:
        if self.generator.full_layers and self.warm_up.loss == "all_tokens":
            raise ValueError(
                "warm_up.loss: all_tokens scores passages, too, of which generator.full_layers gives no"
                " probabilities; use loss: answer, or full_layers: 0"
            )
        return self

    @property
    def roles(self) -> dict[Role, RoleSettings]:
        """The models that there are, with their settings."""
        pair: dict[Role, RoleSettings] = {"selector": self.selector, "generator": self.generator}
        return pair if self.rewriter is None else {**pair, "rewriter": self.rewriter}

    def trains(self, role: Role) -> bool:
        """Whether the warm-up or the M-step fits the role's model (of a frozen pointer they fit what is added
        to it)."""
        if role == "selector" and self.selector.kind == "pointer" and self.selector.pointer.frozen:
            return False
        moved: bool = getattr(self, f"train_{role}")
        return moved or getattr(self.warm_up, role) is not None

    @model_validator(mode="after")
    def _no_steps_are_lost(self) -> Config:
        """Most steps of training are smaller than what 16 bits can tell apart."""
        for role, settings in self.roles.items():
            if settings.dtype == "float16" and settings.adapter is None and self.trains(role):
                raise ValueError(
                    f"{role}.dtype: weights of float16 cannot be trained whole; set {role}.dtype: bfloat16"
                    f" (float32 weights, products in bfloat16), or give {role}.adapter"
                )
        return self

    @model_validator(mode="after")
    def _one_base(self) -> Config:
        """Adapters share what is loaded: all that says what that is must be the same."""
        if self.shared_backbone:
            for role, settings in self.roles.items():
                if settings.adapter is None:
                    raise ValueError(f"shared_backbone: needs {role}.adapter (lora): the base is not trained")
                for key in _OF_THE_BASE:
                    expected, other = getattr(self.selector, key), getattr(settings, key)
                    if expected != other:
                        raise ValueError(
                            f"shared_backbone: selector.{key} is {expected!r} and {role}.{key} {other!r}; one"
                            " base has one"
                        )
        return self

    @model_validator(mode="after")
    def _whole_weights(self) -> Config:
        """Shards are of plain weights, which stay where they are, and of AdamW's own moments."""
        if self.parallel.strategy == "ddp":
            return self
        fits = (*self.warm_up.fits, *self.m_step.fits)
        for what, there in (
            ("adapters", self.selector.adapter or self.generator.adapter),
            ("cross_fitted", self.cross_fitted),
            ("an objective with a reference (rrpo, or objective.kl)", self.objective.needs_reference),
            ("e_step.replay", self.e_step.replay),
            ("evaluation.test: best", self.evaluation.test == "best" and self.data.test),
            ("8-bit optimisers", any(f.optimiser != "adamw" for f in fits)),
        ):
            if there:
                raise ValueError(
                    f"parallel.strategy: {self.parallel.strategy} does not go with {what}; ddp does"
                )
        return self

    @model_validator(mode="after")
    def _nothing_to_stop(self) -> Config:
        if self.selector.stop and not self.objective.draws_lists:
            raise ValueError(f"selector.stop: objective {self.objective.kind} writes no lists")
        if self.selector.stop and self.e_step.engine.kind != "transformers":
            raise ValueError(f"selector.stop: e_step.engine {self.e_step.engine.kind} writes whole lists")
        return self

    @model_validator(mode="after")
    def _a_pointer_points(self) -> Config:
        """What a pointer has not, and what nothing but a pointer has."""
        pointer = self.selector.kind == "pointer"
        if pointer and self.selector.pointer.frozen and self.selector.adapter is not None:
            raise ValueError(
                "selector.pointer.frozen: nothing of the model is trained, so selector.adapter must be null"
            )
        by_heads = pointer and self.selector.pointer.score == "attention"
        if by_heads and (self.selector.attention != "sdpa" or self.selector.gradient_checkpointing):
            raise ValueError(
                "selector.pointer.score: attention is seen in selector.attention: sdpa, without"
                " selector.gradient_checkpointing"
            )
        if pointer and self.parallel.strategy.startswith("deepspeed"):
            raise ValueError(
                f"parallel.strategy: {self.parallel.strategy} does not go with selector.kind: pointer, whose"
                " projections are no part of the model's own layers; ddp and fsdp2 do"
            )
        if pointer and self.e_step.engine.kind != "transformers":
            raise ValueError(
                f"e_step.engine: {self.e_step.engine.kind} writes lists, and a pointer decodes nothing;"
                " take transformers"
            )
        for stage, fits in (("warm_up", self.warm_up), ("m_step", self.m_step)):
            for role, fit in (("selector", fits.selector), ("generator", fits.generator)):
                there = fit is not None and fit.projection_learning_rate is not None
                if there and not (pointer and role == "selector"):
                    raise ValueError(
                        f"{stage}.{role}.projection_learning_rate: only a selector of kind: pointer has"
                        " projections"
                    )
        return self

    @model_validator(mode="before")
    @classmethod
    def _something_can_be_taught(cls, values: Any) -> Any:
        refuse_untrainable(values)
        return values

    @model_validator(mode="after")
    def _can_be_taught(self) -> Config:
        check_taught(self)
        return self

    @model_validator(mode="after")
    def _can_ask_again(self) -> Config:
        check_paths(self.objective, self)
        check_asking(self)
        return self

    @model_validator(mode="after")
    def _can_think(self) -> Config:
        if self.generator.think:
            check_thinking(self.objective, self)
        elif self.answering.thoughts > 1:
            raise ValueError(
                "answering.thoughts: there are none with generator.think: 0; set a number of tokens"
            )
        return self

    @model_validator(mode="after")
    def _proposals_suit(self) -> Config:
        check_proposals(self.objective, self.e_step)
        return self
