"""Settings of the loop: warm-up, E-step, M-step, evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ragdro.config.base import IMPORT_PATH, Settings
from ragdro.config.engine import EngineSettings, TransformersEngine
from ragdro.config.retrieval import Retrieval


class Optimisation(Settings):
    """How one model is fitted to a fixed set of weighted samples."""

    optimiser: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"] = Field(
        "adamw",
        description="AdamW, or bitsandbytes' with states of 8 bits, paged out of the GPU when it is full",
    )
    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate")
    projection_learning_rate: float | None = Field(
        None,
        gt=0,
        description="of a pointer selector's projections; null: ten times `learning_rate`",
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay")
    epochs: float = Field(1.0, gt=0, description="passes over the questions; fractions are fine")
    batch_size: int = Field(64, ge=1, description="questions whose gradients one update averages")
    max_tokens_per_micro_batch: int = Field(
        8192, ge=1, description="most tokens in one forward and backward pass"
    )
    warm_up_fraction: float = Field(
        0.05, ge=0, le=1, description="fraction of the updates that raise the rate"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after that")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    beta2: float = Field(0.999, gt=0, lt=1, description="AdamW's second decay rate")

    @property
    def projection_rate(self) -> float:
        """The peak learning rate of a pointer's projections."""
        return self.projection_learning_rate or 10 * self.learning_rate


class WarmUp(Settings):
    """Supervised fine-tuning of both models before the loop."""

    start: str | None = Field(
        None,
        alias="from",
        description="a run folder: the loop starts from its warmed-up pair, and nothing is fitted before it;"
        " or one of its stages, RUN/checkpoints/iteration-N",
    )
    selector: Optimisation | None = Field(Optimisation(), description="null: the selector is taken as it is")
    generator: Optimisation | None = Field(
        Optimisation(), description="null: the generator is taken as it is"
    )
    rewriter: Optimisation | None = Field(Optimisation(), description="null: the rewriter is taken as it is")
    teacher: Literal["auto", "distant", "gold", "query-likelihood", "fused"] = Field(
        "auto",
        description="whose lists are taught: 'distant' puts passages that hold an answer first, 'gold' those"
        " labelled as gold, 'auto' follows the data's own ranking and is distant where there is none;"
        " 'query-likelihood' goes by p(question | passage) under the generator before it is trained, 'fused'"
        " by the reciprocal ranks of that, of the retriever and of `encoder`; docs/how-to/models.md",
    )
    encoder: str | None = Field(
        None, description="hub name or folder of a bi-encoder whose order is fused too; teacher 'fused' only"
    )
    loss: Literal["answer", "all_tokens"] = Field(
        "answer",
        description="'answer' fine-tunes a model; 'all_tokens' is what one with random weights needs (a"
        " pointer selector writes no tokens: its lists alone are taught)",
    )

    @model_validator(mode="before")
    @classmethod
    def _warmed_up_elsewhere(cls, values: Any) -> Any:
        """A pair from another run is not fitted again: what is left of the settings says so."""
        if isinstance(values, Mapping) and values.get("from") is not None:
            return {**values, "selector": None, "generator": None, "rewriter": None}
        return values

    @model_validator(mode="after")
    def _encoder_is_fused(self) -> WarmUp:
        if self.encoder is not None and self.teacher != "fused":
            raise ValueError(f"encoder: teacher {self.teacher} takes none; set teacher: fused")
        return self

    @property
    def asks_a_model(self) -> bool:
        """Whether the teacher's order is computed with a model, once, before any training."""
        return self.teacher in ("query-likelihood", "fused")

    @property
    def fits(self) -> list[Optimisation]:
        """The pair's, those that there are."""
        return [fit for fit in (self.selector, self.generator) if fit is not None]


class Mixture(Settings):
    """Proposals that do not come from the selector; the weights correct for them exactly."""

    retriever: float = Field(0.1, ge=0, lt=1, description="fraction drawn by the retriever's order")
    teacher: float = Field(0.0, ge=0, lt=1, description="fraction drawn by the order of `warm_up.teacher`")
    uniform: float = Field(0.1, ge=0, lt=1, description="fraction drawn at random")
    decay: float = Field(
        0.8, gt=0, le=1, description="of shares drawn by an order: each rank's weight over the one before it"
    )

    @model_validator(mode="after")
    def _some_from_the_selector(self) -> Mixture:
        if self.retriever + self.teacher + self.uniform >= 1:
            raise ValueError(
                "retriever, teacher and uniform together must be less than 1, the rest is the selector's"
            )
        return self


class EStep(Settings):
    """Drawing and weighting permutations."""

    samples: int = Field(8, ge=1, description="permutations drawn for each question (m)")
    temperature: float = Field(
        1.0, gt=0, description="of the proposals; other than 1 is corrected for in the weights"
    )
    questions: int | None = Field(
        None, ge=1, description="training questions an iteration takes, in turn; null for all"
    )
    max_tokens_per_micro_batch: int = Field(32768, ge=1, description="most tokens in one forward pass")
    questions_per_shard: int = Field(
        256, ge=1, description="questions drawn and scored together; a killed run repeats one shard at most"
    )
    mixture: Mixture | None = Field(None, description="draw some permutations elsewhere; null: none")
    replay: int = Field(
        0, ge=0, description="earlier iterations whose permutations are used again, where a question returns"
    )
    engine: EngineSettings = Field(TransformersEngine(), description="what samples; docs/how-to/scaling.md")

    @model_validator(mode="after")
    def _mixture_of_the_selector_itself(self) -> EStep:
        if self.mixture is not None and self.temperature != 1:
            raise ValueError("a mixture takes the selector at temperature 1")
        if self.replay and self.temperature != 1:
            raise ValueError("replay takes the selector at temperature 1")
        if (self.mixture is not None or self.replay) and self.engine.kind != "transformers":
            raise ValueError("mixture and replay take engine transformers")
        return self


class MStep(Settings):
    """Fitting both models to the weighted samples."""

    selector: Optimisation = Field(Optimisation(), description="the selector's update")
    generator: Optimisation = Field(Optimisation(), description="the generator's update")
    rewriter: Optimisation = Field(Optimisation(), description="the rewriter's update")

    @property
    def fits(self) -> list[Optimisation]:
        """The pair's."""
        return [self.selector, self.generator]


class Evaluation(Settings):
    """What is measured, and after which iterations."""

    every: int = Field(
        1,
        ge=1,
        description="iterations between two that are measured (the warm-up and the last one always are); only"
        " those that are can be the best",
    )
    test: Literal["all", "best"] = Field(
        "all",
        description="which stages the test questions measure: 'all' that the validation questions do, or"
        " 'best': vanilla RAG, the warm-up and, in the end, the best iteration",
    )
    samples: int = Field(
        8, ge=1, description="permutations of the m-sample bound, with common random numbers"
    )
    tight_samples: int | None = Field(
        64,
        ge=1,
        description="permutations of a tighter bound; null: none",
    )
    tight_questions: int = Field(
        32, ge=1, description="validation questions that the tighter bound is taken on"
    )
    questions: int | None = Field(None, ge=1, description="most validation questions; null for all")
    max_tokens_per_micro_batch: int = Field(32768, ge=1, description="most tokens in one forward pass")
    metrics: list[Annotated[str, Field(pattern=IMPORT_PATH)]] = Field(
        [],
        description="metrics of one's own, measured beside ours: 'package.module:function', from an answer"
        " and the gold answers to a number",
    )
    metric: Literal["exact_match", "f1", "bound"] | Annotated[str, Field(pattern=IMPORT_PATH)] = Field(
        "exact_match",
        description="what the best iteration and early stopping go by, on the validation split; one of"
        " `metrics` is written as it is there",
    )

    @model_validator(mode="after")
    def _metric_is_measured(self) -> Evaluation:
        if ":" in self.metric and self.metric not in self.metrics:
            raise ValueError(f"metric: {self.metric} has to be one of evaluation.metrics")
        return self


class Timeouts(Settings):
    """Minutes that a process waits for one that lives and does not come; a death is known at once."""

    loading: float = Field(
        360,
        gt=0,
        description="until training begins, and when it teaches a retriever: the first process searches,"
        " indexes and tokenises",
    )
    e_step: float = Field(60, gt=0, description="a shard of the E-step, or a split that is measured")
    gradient_step: float = Field(20, gt=0, description="an update")
    saving: float = Field(60, gt=0, description="a state or a checkpoint, written or read back")


class Parallel(Settings):
    """What several processes (torchrun) share beside the questions; docs/how-to/scaling.md."""

    strategy: Literal["ddp", "fsdp2", "deepspeed-zero2", "deepspeed-zero3"] = Field(
        "ddp",
        description="ddp: each process has both models whole; others: parts of the one in training",
    )
    timeouts: Timeouts = Field(Timeouts(), description="minutes to wait for another process, by its work")


class Checkpoints(Settings):
    """What a run keeps on disk, to resume from and to load."""

    every: int = Field(
        200, ge=1, description="optimiser updates between two saved states; a killed run repeats fewer"
    )
    keep: Literal["best_and_last", "all"] = Field(
        "best_and_last", description="which iterations' models stay in checkpoints/"
    )


class TrainingSettings(Settings):
    """How a pair is trained, wherever its models and questions come from."""

    seed: int = Field(0, ge=0, description="decides every random number of the run")
    warm_up: WarmUp = Field(WarmUp(), description="before the loop")
    iterations: int = Field(5, ge=0, description="most rounds of E-step and M-step (N in the paper)")
    patience: int | None = Field(
        2,
        ge=1,
        description="stop when the last one measured is so many iterations after the best; null: never",
    )
    cross_fitted: bool = Field(
        False, description="questions are weighted by a generator that was not fitted to them (two folds)"
    )
    e_step: EStep = Field(EStep(), description="sampling and weighting")
    m_step: MStep = Field(MStep(), description="fitting")
    train_selector: bool = Field(True, description="false: the selector stays as warmed up (ablation)")
    train_generator: bool = Field(True, description="false: the generator stays as warmed up (ablation)")
    train_rewriter: bool = Field(True, description="false: the rewriter stays as warmed up (ablation)")
    evaluation: Evaluation = Field(Evaluation(), description="measuring")
    retrieval: Retrieval = Field(Retrieval(), description="how often a question is asked")
    parallel: Parallel = Field(Parallel(), description="several processes")
    bad_batches: int = Field(
        10, ge=0, description="updates skipped for a loss or gradient that is not finite before the run stops"
    )

    @model_validator(mode="after")
    def _folds_are_warmed_up_here(self) -> TrainingSettings:
        if self.cross_fitted and self.warm_up.start is not None:
            raise ValueError(
                "warm_up.from: does not go with cross_fitted: that pair was fitted to the questions that its"
                " folds would have to weight"
            )
        return self
