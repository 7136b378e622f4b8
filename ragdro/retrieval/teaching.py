"""A retriever is trained on labels, by the trainer of sentence-transformers.

In: `RelevanceLabels` of questions, an encoder's settings, and how to train. Out: a folder that
`retriever.model` takes. What is encoded is what a search encodes: the passage's title and text, with the
prompts and routes of the settings or of the checkpoint.

A question is compared with n of its passages (`rows_of`): half the best, half negatives, which are the ones
that are worth nothing (no list chose them), the retriever's highest first. The losses:

    kl           KL(y / sum y || softmax(s)), s of all passages of the batch (ours: `ragdro.retrieval.losses`)
    infonce      each positive against its negatives and those of the batch (MultipleNegativesRankingLoss)
    margin       (s_1 - s_j - m (y_1 - y_j))², the best passage against each other one (MarginMSELoss)
    wasserstein  distributions of scores and of labels (ours)

s = 20 cos for a bi-encoder (margin: cos, m = 0.3). ColBERT takes the first two, with s = MaxSim and, for kl,
the question's own passages alone (MultiVectorDistillKLDivLoss).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sentence_transformers import (
    MultiVectorEncoder,
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler
from sentence_transformers.multi_vector_encoder import losses as token_losses
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.util import pairwise_cos_sim
from transformers import PrinterCallback, TrainerCallback

from ragdro.config.retriever import ColbertSettings, DenseSettings
from ragdro.config.teaching import RetrieverTraining
from ragdro.errors import RetrievalError
from ragdro.files import finish_files
from ragdro.progress import display
from ragdro.retrieval.encoders import check_projection, load_bi_encoder, load_token_encoder, passage_text
from ragdro.retrieval.losses import ListwiseLoss, WassersteinLoss
from ragdro.types import Passage, RelevanceLabels

SCALE = 20.0
"""Cosines are so much further apart before a softmax: the library's own default."""
MARGIN = 0.3
"""The difference of two cosines that a difference of labels of 1 asks for."""
_LEAST = 1e-6
"""Of a label before its logarithm."""

Row = tuple[str, list[str], list[float]]
"""A question, its passages, their labels."""


def teach(
    labels: Sequence[RelevanceLabels],
    settings: DenseSettings | ColbertSettings,
    training: RetrieverTraining,
    folder: Path,
    *,
    show_progress: bool = False,
) -> float:
    """Train the settings' model and write it into `folder`; returns the mean loss.

    RetrievalError for a model that cannot be loaded or trained so, and for labels that teach nothing.
    """
    known = len({p.content for one in labels for p in one.passages})
    if known < training.passages:
        raise RetrievalError(f"--passages {training.passages}: the questions have only {known} in all")
    rows = rows_of(labels, training)
    if len(rows) < 2:
        raise RetrievalError(f"--labels {training.labels}: only {len(rows)} of the questions teach anything")
    late = isinstance(settings, ColbertSettings)
    if late and training.loss not in ("kl", "infonce"):
        raise RetrievalError(f"--loss {training.loss}: is for bi-encoders; ColBERT takes kl and infonce")
    model = _loaded(settings)
    whole = model.max_seq_length
    if training.max_tokens is not None:
        model.max_seq_length = training.max_tokens if whole is None else min(whole, training.max_tokens)
    with TemporaryDirectory() as scratch:
        trainer = (_TokenTrainer if late else _BiTrainer)(
            model=model,
            args=_arguments(model, settings, training, scratch),
            train_dataset=_dataset(rows, training, late),
            loss=_loss(model, training),
            callbacks=[_Shown()] if show_progress else [],
        )
        trainer.remove_callback(PrinterCallback)
        mean = float(trainer.train().training_loss)
    if not math.isfinite(mean):
        raise RetrievalError(
            f"--learning-rate {training.learning_rate}: the loss is no number; take a lower one"
        )
    model.max_seq_length = whole
    model.save_pretrained(str(folder), create_model_card=False)
    finish_files(folder)
    return mean


def rows_of(labels: Sequence[RelevanceLabels], training: RetrieverTraining) -> list[Row]:
    """One row a question; with InfoNCE one a positive, which stands first, before negatives alone.

    Every row has `training.passages` passages; a question with fewer candidates is filled up with passages
    of other questions, worth nothing to it. Questions whose labels are all equal teach nothing and have none.
    """
    rng, n = random.Random(training.seed), training.passages
    pool = list({p.content: p for one in labels for p in one.passages}.values())
    rows: list[Row] = []
    for one in labels:
        if max(one.values) == min(one.values):
            continue
        passages, values = _filled(one, n, training.likely, pool, rng)
        best = sorted(range(len(values)), key=lambda i: -values[i])
        if training.loss == "infonce":
            positives = [i for i in best if values[i] >= training.likely] or best[:1]
            picked = [[i, *_negatives(values, positives, n - 1)] for i in positives]
        else:
            first = best[: math.ceil(n / 2)]
            picked = [[*first, *_negatives(values, first, n - len(first))]]
        for row in picked:
            row[1:] = sorted(row[1:], key=lambda i: -values[i])
            if len(row) == n:
                texts = [passage_text(passages[i]) for i in row]
                rows.append((one.question.question, texts, [values[i] for i in row]))
    return rows


def _negatives(values: Sequence[float], taken: Sequence[int], count: int) -> list[int]:
    """The `count` passages that are worth least, in the retriever's order where that is equal."""
    left = [i for i in range(len(values)) if i not in set(taken)]
    return sorted(left, key=lambda i: values[i])[:count]


def _filled(
    one: RelevanceLabels, n: int, likely: float, pool: Sequence[Passage], rng: random.Random
) -> tuple[list[Passage], list[float]]:
    """The passages and values of `one`, with others behind them where its own are fewer than n negatives and
    its positives."""
    passages, values = list(one.passages), list(one.values)
    own = {p.content for p in passages}
    missing = n + sum(value >= likely for value in values) - len(passages)
    others = [p for p in rng.sample(pool, min(len(pool), max(0, missing) + len(own))) if p.content not in own]
    filled = others[: max(0, missing)]
    return [*passages, *filled], [*values, *[0.0] * len(filled)]


def _loaded(settings: DenseSettings | ColbertSettings) -> Any:
    if isinstance(settings, DenseSettings):
        return load_bi_encoder(settings)
    encoder = load_token_encoder(settings)
    if settings.projection == "checkpoint":
        check_projection(encoder, settings)
    return encoder


def _dataset(rows: Sequence[Row], training: RetrieverTraining, late: bool = False) -> Any:
    """Columns `query`, `passage_1` …, and `label` where the loss takes labels."""
    from datasets import Dataset

    columns: dict[str, list[Any]] = {"query": [question for question, _, _ in rows]}
    for place in range(training.passages):
        columns[f"passage_{place + 1}"] = [texts[place] for _, texts, _ in rows]
    match training.loss:
        case "kl" if late:
            columns["label"] = [[math.log(max(v, _LEAST)) for v in values] for _, _, values in rows]
        case "margin":
            columns["label"] = [[MARGIN * v for v in values] for _, _, values in rows]
        case "kl" | "wasserstein":
            columns["label"] = [values for _, _, values in rows]
    return Dataset.from_dict(columns)


def _loss(model: SentenceTransformer | MultiVectorEncoder, training: RetrieverTraining) -> Any:
    if isinstance(model, MultiVectorEncoder):
        if training.loss == "kl":
            return token_losses.MultiVectorDistillKLDivLoss(model)
        return token_losses.MultiVectorMultipleNegativesRankingLoss(model)
    match training.loss:
        case "kl":
            return ListwiseLoss(model, SCALE)
        case "infonce":
            return losses.MultipleNegativesRankingLoss(model, scale=SCALE)
        case "margin":
            return losses.MarginMSELoss(model, similarity_fct=pairwise_cos_sim)
        case "wasserstein":
            return WassersteinLoss(model, SCALE)


def _arguments(
    model: Any, settings: DenseSettings | ColbertSettings, training: RetrieverTraining, scratch: str
) -> Any:
    columns = ["query", *(f"passage_{place + 1}" for place in range(training.passages))]
    asked = settings.query_prompt if settings.query_prompt is not None else model.prompts.get("query")
    own = (model.prompts[name] for name in ("document", "passage", "corpus") if name in model.prompts)
    read = settings.passage_prompt if settings.passage_prompt is not None else next(own, None)
    kind = (
        SentenceTransformerTrainingArguments
        if isinstance(settings, DenseSettings)
        else MultiVectorEncoderTrainingArguments
    )
    return kind(
        output_dir=scratch,
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        warmup_steps=0.1,
        seed=training.seed,
        prompts={
            name: prompt for name, prompt in zip(columns, [asked, *[read] * training.passages]) if prompt
        },
        router_mapping={name: "document" if name != "query" else "query" for name in columns},
        batch_sampler=_EveryRow if training.loss in ("kl", "infonce") else "batch_sampler",
        use_cpu=str(model.device) == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class _EveryRow(NoDuplicatesBatchSampler):  # type: ignore[misc]
    """Batches in which no text occurs twice, every row in one of them: the same in every epoch, in an order
    of its own.

    The library's own sampler ends an epoch after rows / batch size batches, however many rows are left then:
    most, where questions share passages.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._batches: list[list[int]] = []
        self._batches = list(super().__iter__())

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        rng = torch.Generator().manual_seed(self.seed + self.epoch)
        return (self._batches[i] for i in torch.randperm(len(self), generator=rng).tolist())


class _BiTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """Without the library's model card, which shows passages and asks the hub."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """The card is ours."""


class _TokenTrainer(MultiVectorEncoderTrainer):  # type: ignore[misc]
    """The same for ColBERT."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """The card is ours."""


class _Shown(TrainerCallback):  # type: ignore[misc]
    """How far the training is, as everywhere else."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._display = display(transient=True)
        self._display.start("training the retriever", state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._display.advance("training the retriever")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._display.close()
