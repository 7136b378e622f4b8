"""`ragdro diagnose`: whose fault the wrong answers of a trained pair are."""

from __future__ import annotations

import json
from typing import Annotated, Optional

import typer

from ragdro.cli.checks import require_sources, require_stage
from ragdro.cli.models import RunPath, Stage


def diagnose(
    run: RunPath,
    data: Annotated[Optional[str], typer.Option(help="questions; default: those the run reports on")] = None,  # noqa: UP045
    corpus: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="search in this corpus; default: candidates as in the run"),
    ] = None,
    stage: Stage = "best",
    questions: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="at most so many questions, at equal distances"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="print JSON, a record a question too")] = False,
) -> None:
    """Whose fault wrong answers are: selection, reading, noise, order; on a run or an exported folder.

    Asks the generator again with its reading changed: without passages, from behind, with one wrong passage
    more, with the gold passages alone. RUN/diagnosis.json has the result; `ragdro report` shows it.
    """
    require_stage(run, stage)
    require_sources(data, corpus=corpus)
    from ragdro.report.diagnosis import print_diagnosis
    from ragdro.runs.diagnose import diagnose_run

    result = diagnose_run(run, data, stage, questions, corpus)
    if json_:
        typer.echo(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        print_diagnosis(result)
