"""`ragdro retriever`: the retriever learns from what a run found worth reading."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from ragdro.cli.checks import require_run
from ragdro.cli.models import RunPath
from ragdro.config.teaching import LabelSource, RetrieverLoss, RetrieverTraining
from ragdro.units import counted, number

retriever_app = typer.Typer(no_args_is_help=True, help="A retriever that learns from a run.")
_DEFAULTS = RetrieverTraining()


def _option(name: str) -> Any:
    return typer.Option(help=RetrieverTraining.model_fields[name].description)


@retriever_app.command("train")
def train(
    run: RunPath,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME|FOLDER", help="the model to train; default: that of the run's retriever"),
    ] = None,
    labels: Annotated[LabelSource, _option("labels")] = _DEFAULTS.labels,
    loss: Annotated[RetrieverLoss, _option("loss")] = _DEFAULTS.loss,
    epochs: Annotated[float, _option("epochs")] = _DEFAULTS.epochs,
    learning_rate: Annotated[float, _option("learning_rate")] = _DEFAULTS.learning_rate,
    batch_size: Annotated[int, _option("batch_size")] = _DEFAULTS.batch_size,
    passages: Annotated[int, _option("passages")] = _DEFAULTS.passages,
    likely: Annotated[float, _option("likely")] = _DEFAULTS.likely,
    max_tokens: Annotated[Optional[int], _option("max_tokens")] = _DEFAULTS.max_tokens,  # noqa: UP045
    questions: Annotated[Optional[int], _option("questions")] = _DEFAULTS.questions,  # noqa: UP045
    seed: Annotated[int, _option("seed")] = _DEFAULTS.seed,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FOLDER", help="where it is written; default: RUN/retriever"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace one that is there")] = False,
) -> None:
    """Train a retriever on what the run's lists say each passage was worth.

    The label of a passage is the fraction of the lists' weight that read it.

    The next run takes RUN/retriever as its `retriever.model`, and indexes the corpus with it.
    """
    from pydantic import ValidationError

    from ragdro.config.words import describe
    from ragdro.errors import ConfigError

    require_run(run)
    values = {
        "labels": labels,
        "loss": loss,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "passages": passages,
        "likely": likely,
        "max_tokens": max_tokens,
        "questions": questions,
        "seed": seed,
    }
    try:
        training = RetrieverTraining.model_validate(values)
    except ValidationError as error:
        key, _, what = describe(error, RetrieverTraining).partition(":")
        raise ConfigError(f"--{key.replace('_', '-')}:{what}") from error
    from ragdro.runs.teach import teach_retriever

    made = teach_retriever(run, training, model=model, out=out, overwrite=overwrite, show_progress=True)
    typer.echo(
        f"{made.folder}: {made.model}, taught by {counted(made.questions)}, mean loss {number(made.loss)}"
    )
    typer.echo(f"next: ragdro train CONFIG name=NEW retriever.kind={made.kind} retriever.model={made.folder}")
