"""`ragdro retriever train`: the loop teaches the retriever.

In: a run folder. Out: RUN/retriever, a sentence-transformers folder for `retriever.model` of the next run.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ragdro.algorithms.base import algorithm_of
from ragdro.config import Config
from ragdro.config.retriever import ColbertSettings, DenseSettings, HybridSettings, RetrieverSettings
from ragdro.config.teaching import RetrieverTraining
from ragdro.errors import ConfigError, RetrievalError
from ragdro.files import atomic_folder, finish_replacing, made_beside, replace_folder, write_atomically
from ragdro.runs.stages import config_of
from ragdro.runs.weighted_lists import training_tasks, weighted_lists
from ragdro.training.evaluate import spaced
from ragdro.training.relevance import distant_labels, gold_labels, posterior_labels
from ragdro.types import RelevanceLabels

FOLDER = "retriever"
_MODULES = "modules.json"
"""What every folder of sentence-transformers has: nothing else is replaced."""
Trainable = DenseSettings | ColbertSettings


@dataclass(frozen=True, slots=True)
class Taught:
    """What was made: the folder, from which model, of how many questions, with which mean loss."""

    folder: Path
    kind: str
    model: str
    questions: int
    loss: float


def teach_retriever(
    run: Path,
    training: RetrieverTraining,
    *,
    model: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
) -> Taught:
    """Train the run's own retriever, or `model`, on labels of the run's training questions into `out`
    (None: RUN/retriever).

    Raises `ConfigError` for a run whose retriever has no weights to train, for a folder that is there and
    not to be replaced, and for labels that are not to be had; `RetrievalError` for a model that is none.
    """
    config = config_of(run)
    settings = trainable(config, model)
    folder = run / FOLDER if out is None else out
    making = made_beside(folder)
    finish_replacing(making, folder)
    if folder.exists() and not overwrite:
        raise ConfigError(
            f"{folder}: exists; pass overwrite=True to replace it, or give another one: --out FOLDER"
        )
    if folder.exists() and not (folder / _MODULES).is_file():
        raise ConfigError(
            f"{folder}: no retriever's folder (it has no {_MODULES}); give another: --out FOLDER"
        )
    labels = labels_of(run, config, training)
    try:
        from ragdro.retrieval.teaching import teach
    except ModuleNotFoundError as error:
        raise RetrievalError(
            f"training a retriever needs {error.name}, which is not installed:"
            " pip install 'ragdro[retriever]'"
        ) from error
    shutil.rmtree(making, ignore_errors=True)
    with atomic_folder(making) as new:
        loss = teach(labels, settings, training, new, show_progress=show_progress)
        write_atomically(new / "README.md", _card(run, settings, training, len(labels)))
    replace_folder(making, folder)
    return Taught(folder, settings.kind, settings.model, len(labels), loss)


def trainable(config: Config, model: str | None) -> Trainable:
    """The settings of the encoder to train: the run's own, with `model` in its place where that is given.

    Raises `ConfigError` where the run's retriever has none and none is given.
    """
    device = None if config.device == "auto" else config.device
    own = _encoders(config.retriever)
    if model is not None:
        first = own[0] if own else DenseSettings(model=model)
        changes = {"model": model, "revision": None, "device": first.device or device}
        return first.model_copy(update=changes)
    if len(own) != 1:
        why = "has several models" if own else "has no weights to train"
        raise ConfigError(f"retriever.kind: {config.retriever.kind} {why}; name one: --model NAME or FOLDER")
    return own[0].model_copy(update={"device": own[0].device or device})


def _encoders(settings: RetrieverSettings) -> list[Trainable]:
    if isinstance(settings, DenseSettings | ColbertSettings):
        return [settings]
    if isinstance(settings, HybridSettings):
        return [one for one in settings.members if isinstance(one, DenseSettings | ColbertSettings)]
    return []


def labels_of(run: Path, config: Config, training: RetrieverTraining) -> list[RelevanceLabels]:
    """The labels of the run's training questions that have any. Raises `ConfigError` where none has."""
    match training.labels:
        case "posterior":
            if not algorithm_of(config).selects:
                raise ConfigError(
                    f"--labels posterior: {run} draws no lists, it reads the retriever's first"
                    f" {config.selector.k} (objective.kind: {config.objective.kind}); take --labels distant"
                    " or gold"
                )
            if config.retrieval.asks:
                raise ConfigError(
                    f"--labels posterior: {run} asks what a rewriter writes, and what a"
                    " query found says nothing of the question's own candidates; take --labels distant or"
                    " gold"
                )
            labels = posterior_labels(weighted_lists(run, config))
            missing = "every answer was impossible under every list"
        case "gold":
            labels = gold_labels(training_tasks(config))
            missing = "no training question has passages labelled gold"
        case "distant":
            labels = distant_labels(training_tasks(config))
            missing = "no candidate holds an answer"
    if not labels:
        raise ConfigError(f"--labels {training.labels}: {missing} in {run}; take another source of labels")
    return spaced(labels, training.questions or len(labels))


def _card(run: Path, settings: Trainable, training: RetrieverTraining, questions: int) -> str:
    lines = [f"{key}: {value}" for key, value in training.model_dump().items()]
    return (
        f"# A retriever that a run taught\n\n`{settings.model}`, trained by `ragdro retriever train {run}` on"
        f" {questions} questions.\n\n" + "".join(f"- {line}\n" for line in lines)
    )
