"""`ragdro data convert`, `ragdro data inspect`, `ragdro score` and `ragdro compare`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from ragdro.cli.checks import require_spared
from ragdro.cli.fields import FieldsOption, field_names
from ragdro.cli.paths import path_argument, path_option
from ragdro.sources import resolve
from ragdro.units import counted

_FILE_OF_STAGE = {"warm-up": "warm_up", "vanilla": "vanilla_rag"}
data_app = typer.Typer(help="Look into data files and convert them.", no_args_is_help=True)

_Source = Annotated[str, typer.Argument(help="file, BEIR folder, or hf:org/name[:split]")]
_SkipBad = Annotated[int, typer.Option(min=0, help="bad records to leave out before giving up")]
_Aliases = Annotated[Path | None, path_option(help="2WikiMultiHopQA's id_aliases.json")]
_Json = Annotated[bool, typer.Option("--json", help="print JSON")]
_Data = Annotated[str, typer.Option(help="questions with gold answers, in any format that is read")]
_Predictions = Annotated[Path, path_option(help="{id, answer} lines, a run's file, or an official format")]
_Seed = Annotated[int, typer.Option(min=0, help="seed of the resampling")]
_Normalisation = Annotated[Literal["squad", "dro"], typer.Option(help="dro: punctuation becomes a space")]
_RuleName = Literal["squad", "hotpotqa", "2wiki", "musique", "kilt", "dpr"]
_RuleOption = Annotated[_RuleName | None, typer.Option(help="whose corner cases; by default the data's own")]
_Export = Annotated[
    Literal["hotpotqa", "musique", "2wiki", "kilt"] | None,
    typer.Option(help="also write the predictions in this official format"),
]


@data_app.command()
def convert(
    file: _Source,
    out: Annotated[Path, path_option(help="JSONL to write; .gz and .zst are compressed")],
    corpus: Annotated[
        bool, typer.Option("--corpus", help="write the passages that came with questions")
    ] = False,
    skip_bad: _SkipBad = 0,
    aliases: _Aliases = None,
    fields: FieldsOption = "",
) -> None:
    """Write any format that is read as our own JSONL."""
    from ragdro.data.convert import convert as run

    require_spared(out, file, aliases)
    names = field_names(fields)
    done = run(resolve(file), out, as_corpus=corpus, skip_bad=skip_bad, aliases=aliases, fields=names)
    for problem in done.skipped:
        typer.echo(f"skipped: {problem}", err=True)
    typer.echo(f"{out}: {counted(done.records, 'records')}; format: {done.format}")


@data_app.command()
def inspect(
    file: _Source,
    against: Annotated[str | None, typer.Option(help="another source, to count what both hold")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="model id or folder whose tokens are counted; by default words")
    ] = None,
    skip_bad: _SkipBad = 0,
    aliases: _Aliases = None,
    fields: FieldsOption = "",
    json_: _Json = False,
) -> None:
    """Show what a source was recognised as, and what it holds."""
    from ragdro.data.inspect import inspect as run

    count = None if tokenizer is None else _token_counter(tokenizer)
    other = None if against is None else resolve(against)
    inspection = run(
        resolve(file),
        against=other,
        skip_bad=skip_bad,
        aliases=aliases,
        fields=field_names(fields),
        count_tokens=count,
    )
    typer.echo(
        json.dumps(inspection.as_json(), ensure_ascii=False) if json_ else "\n".join(inspection.as_lines())
    )


def _token_counter(source: str) -> Callable[[str], int]:
    from ragdro.lm.load import load_tokenizer

    tokenizer = load_tokenizer(source)
    return lambda text: len(tokenizer.data(text))


def score(
    data: _Data,
    predictions: _Predictions,
    normalisation: _Normalisation = "squad",
    rule: _RuleOption = None,
    aliases: _Aliases = None,
    skip_bad: _SkipBad = 0,
    seed: _Seed = 0,
    export: _Export = None,
    out: Annotated[Path | None, path_option(help="where --export writes")] = None,
    json_: _Json = False,
) -> None:
    """Score any system's predictions, each metric with a 95 % bootstrap interval."""
    import numpy as np

    from ragdro.errors import ConfigError
    from ragdro.evaluation.export import export_predictions
    from ragdro.evaluation.score import score as run

    if (export is None) != (out is None):
        raise ConfigError("--export and --out go together")
    if out is not None:
        require_spared(out, data, predictions, aliases)
    source = resolve(data)
    scores = run(
        source,
        predictions,
        np.random.default_rng(seed),
        normalisation=normalisation,
        rule=rule,
        aliases=aliases,
        skip_bad=skip_bad,
    )
    if export is not None and out is not None:
        export_predictions(predictions, out, export, data=source)
    typer.echo(json.dumps(scores.as_json(), ensure_ascii=False) if json_ else "\n".join(scores.as_lines()))


def compare(
    run_a: Annotated[Path, path_argument(help="a run folder or a prediction file")],
    run_b: Annotated[Path, path_argument(help="another, compared with the first")],
    data: Annotated[str | None, typer.Option(help="gold answers, where the predictions lack them")] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            help="of run folders: 'best', 'warm-up', 'vanilla' or 'iteration-N' alone; default: all"
        ),
    ] = None,
    normalisation: _Normalisation = "squad",
    rule: _RuleOption = None,
    seed: _Seed = 0,
    json_: _Json = False,
) -> None:
    """Compare two systems question by question: difference, 95 % interval, permutation test, Holm."""
    import numpy as np

    from ragdro.evaluation.compare import as_lines
    from ragdro.evaluation.compare import compare as run

    if stage is not None:
        run_a, run_b = _predictions_of(run_a, stage), _predictions_of(run_b, stage)
    compared = run(
        run_a,
        run_b,
        np.random.default_rng(seed),
        data=None if data is None else resolve(data),
        normalisation=normalisation,
        rule=rule,
        stage=stage,
    )
    if json_:
        typer.echo(json.dumps([entry.as_json() for entry in compared], ensure_ascii=False))
    else:
        typer.echo("\n".join([f"{run_a} → {run_b}", *as_lines(compared)]))


def _predictions_of(run: Path, stage: str) -> Path:
    """The predictions of a run folder's stage; `run` itself where it has no file of them."""
    from ragdro.report.evidence import best_stage
    from ragdro.runs.status import CONFIG, read_results

    name = _FILE_OF_STAGE.get(stage, stage)
    if stage == "best" and (run / CONFIG).is_file():
        name = best_stage(read_results(run))
    file = run / f"predictions-{name}.jsonl"
    return file if file.is_file() else run
