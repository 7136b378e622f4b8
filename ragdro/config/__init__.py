"""The config of a run: typed, closed to unknown keys, from YAML and dotted overrides. Imports no torch.

In: a YAML file and `key.sub=value` strings. Out: a frozen `Config`. Defaults and help are the fields'
own, here and in the section modules, and are written nowhere else.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ragdro.config.base import Settings
from ragdro.config.load import dump_config, load_config
from ragdro.config.models import (
    GeneratorSettings,
    LoraAdapter,
    ModelSettings,
    ScratchModel,
    SelectorSettings,
)
from ragdro.config.objective import Dpo, Dro, DroCentered, DroTempered, Marginal, Objective, Rloo, Sft
from ragdro.config.retriever import Bm25Settings, RetrieverSettings
from ragdro.config.training import (
    Checkpoints,
    EStep,
    Evaluation,
    Mixture,
    MStep,
    Optimisation,
    Parallel,
    WarmUp,
)

__all__ = [
    "Checkpoints",
    "Config",
    "DataSettings",
    "Dpo",
    "Dro",
    "DroCentered",
    "DroTempered",
    "EStep",
    "Evaluation",
    "GeneratorSettings",
    "LoraAdapter",
    "MStep",
    "Marginal",
    "Mixture",
    "ModelSettings",
    "Objective",
    "Optimisation",
    "Parallel",
    "RetrieverSettings",
    "Rloo",
    "ScratchModel",
    "SelectorSettings",
    "Settings",
    "Sft",
    "WarmUp",
    "dump_config",
    "load_config",
]


class DataSettings(Settings):
    """Where questions and passages come from; every value is a file, a folder or `hf:org/name[:split]`."""

    train: str = Field(description="questions to train on")
    validation: str = Field(description="questions that choose the best iteration")
    test: str | None = Field(
        None, description="questions whose figures are reported; null: the validation ones"
    )
    corpus: str | None = Field(
        None, description="passages to retrieve from; null where questions bring candidates"
    )
    train_questions: int | None = Field(None, ge=1, description="take only this many; null for all")
    skip_bad: int = Field(0, ge=0, description="bad records tolerated per file")


_ITS_OWN = ("adapter", "question_tokens", "passage_tokens")
_OF_THE_BASE = tuple(key for key in ModelSettings.model_fields if key not in _ITS_OWN)
"""Of a model's settings those that say what is loaded."""


class Config(Settings):
    """Everything a run is made of; a run folder holds it resolved as `config.yaml`."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run folder's name")
    runs: str = Field("runs", description="the folder that holds run folders")
    cache: str = Field("runs/cache", description="folder of indexes and candidates, shared between runs")
    seed: int = Field(0, ge=0, description="decides every random number of the run")
    device: str = Field("auto", description="torch device; 'auto' takes a GPU if there is one")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; null leaves it alone")
    data: DataSettings = Field(description="questions and corpus")
    retriever: RetrieverSettings = Field(Bm25Settings(), description="where candidates come from")
    top_n: int = Field(20, ge=2, description="candidates a question has (N)")
    degrade: float = Field(
        0, ge=0, le=1, description="share of each question's candidates replaced by random passages (a study)"
    )
    selector: SelectorSettings = Field(description="the model that chooses passages")
    generator: GeneratorSettings = Field(description="the model that answers")
    shared_backbone: bool = Field(
        False, description="selector and generator are two adapters on one base: half the weights in memory"
    )
    warm_up: WarmUp = Field(WarmUp(), description="before the loop")
    iterations: int = Field(5, ge=0, description="most rounds of E-step and M-step (N in the paper)")
    patience: int | None = Field(
        2, ge=1, description="stop after this many rounds without a better one; null: never"
    )
    objective: Objective = Field(Dro(), description="what is maximised; docs/objectives.md")
    cross_fitted: bool = Field(
        False, description="questions are weighted by a generator that was not fitted to them (two folds)"
    )
    e_step: EStep = Field(EStep(), description="sampling and weighting")
    m_step: MStep = Field(MStep(), description="fitting")
    train_selector: bool = Field(True, description="false: the selector stays as warmed up (ablation)")
    train_generator: bool = Field(True, description="false: the generator stays as warmed up (ablation)")
    evaluation: Evaluation = Field(Evaluation(), description="measuring")
    checkpoints: Checkpoints = Field(Checkpoints(), description="what is kept on disk")
    parallel: Parallel = Field(Parallel(), description="several processes")
    bad_batches: int = Field(
        10, ge=0, description="updates skipped for a loss or gradient that is not finite before the run stops"
    )
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        [], description="where metrics.jsonl's figures go as well"
    )

    @model_validator(mode="after")
    def _selectable(self) -> Config:
        if self.selector.k > self.top_n:
            raise ValueError(f"selector.k: K = {self.selector.k} is more than top_n: N = {self.top_n}")
        return self

    def trains(self, role: Literal["selector", "generator"]) -> bool:
        """Whether the warm-up or the M-step fits the role's model."""
        moved = self.train_selector if role == "selector" else self.train_generator
        return moved or getattr(self.warm_up, role) is not None

    @model_validator(mode="after")
    def _no_steps_are_lost(self) -> Config:
        """Most steps of training are smaller than what 16 bits can tell apart."""
        roles: tuple[Literal["selector", "generator"], ...] = ("selector", "generator")
        for role in roles:
            settings: ModelSettings = getattr(self, role)
            if settings.dtype == "float16" and settings.adapter is None and self.trains(role):
                raise ValueError(
                    f"{role}.dtype: weights of float16 cannot be trained whole; set {role}.dtype: bfloat16"
                    f" (float32 weights, products in bfloat16), or give {role}.adapter"
                )
        return self

    @model_validator(mode="after")
    def _one_base(self) -> Config:
        """Two adapters share what is loaded: all that says what that is must be the same."""
        if self.shared_backbone:
            for role, settings in (("selector", self.selector), ("generator", self.generator)):
                if settings.adapter is None:
                    raise ValueError(f"shared_backbone: needs {role}.adapter (lora): the base is not trained")
            for key in _OF_THE_BASE:
                mine, other = getattr(self.selector, key), getattr(self.generator, key)
                if mine != other:
                    raise ValueError(
                        f"shared_backbone: selector.{key} is {mine!r} and generator.{key} {other!r}; one base"
                        " has one"
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
            ("objective.kl", isinstance(self.objective, Rloo) and self.objective.kl > 0),
            ("e_step.replay", self.e_step.replay),
            ("8-bit optimisers", any(f.optimiser != "adamw" for f in fits)),
        ):
            if there:
                raise ValueError(
                    f"parallel.strategy: {self.parallel.strategy} does not go with {what}; ddp does"
                )
        return self

    @model_validator(mode="after")
    def _nothing_to_stop(self) -> Config:
        if self.selector.stop and isinstance(self.objective, Marginal | Sft):
            raise ValueError(f"selector.stop: objective {self.objective.kind} writes no lists")
        if self.selector.stop and self.e_step.engine.kind != "transformers":
            raise ValueError(f"selector.stop: e_step.engine {self.e_step.engine.kind} writes whole lists")
        return self

    @model_validator(mode="after")
    def _on_policy(self) -> Config:
        """Advantages have mean zero under the selector alone, and nothing corrects them elsewhere."""
        step = self.e_step
        own = step.engine.kind == "transformers" and step.temperature == 1
        elsewhere = not own or step.mixture is not None or step.replay > 0
        if isinstance(self.objective, Marginal | Sft) and elsewhere:
            raise ValueError(
                f"objective: {self.objective.kind} draws no lists: no e_step.temperature, e_step.engine,"
                " e_step.mixture or e_step.replay"
            )
        if isinstance(self.objective, DroCentered | Rloo) and elsewhere:
            raise ValueError(
                f"objective: {self.objective.kind} takes samples of the selector itself: e_step.temperature"
                " 1, e_step.engine transformers, no e_step.mixture and no e_step.replay"
            )
        return self
