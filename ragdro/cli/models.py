"""The commands that train and measure."""

from __future__ import annotations

import json
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Optional

import typer

from ragdro.cli.answering import (
    AnsweringOption,
    PassageAttentionOption,
    PassageMemoryOption,
    SamplesOption,
    ThoughtsOption,
    ThresholdOption,
    answering_of,
)
from ragdro.cli.checks import require_own_run, require_parts, require_sources, require_spared, require_stage
from ragdro.cli.paths import path_argument, path_option
from ragdro.config import Config
from ragdro.units import counted

ConfigFile = Annotated[
    Path,
    path_argument(metavar="CONFIG.yaml", help="config file; see configs/. With --resume a run folder too"),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045  (typer reads this form on every Python)
    typer.Argument(metavar="[dotted.key=value ...]", help="values that replace the file's"),
]
RunPath = Annotated[Path, path_argument(metavar="RUN", help="run folder, for instance runs/demo")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace an earlier run of this name")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="resume a run that was stopped or killed; starts one if there is none"),
]
Stage = Annotated[
    str, typer.Option(help="'best', 'warm-up', 'vanilla' (nothing is selected) or 'iteration-N'")
]


def train(
    config: ConfigFile,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, train nothing")] = False,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="with --dry-run: print the resolved config instead")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="check everything first and refuse to run where there is a problem"),
    ] = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="measure where the time goes (RUN/profile.json)")
    ] = False,
) -> None:
    """Run the whole loop: warm-up, then E-step, M-step and measuring, N times."""
    from ragdro.cli.place import settings_of
    from ragdro.config import dump_config
    from ragdro.environment import env_rank
    from ragdro.errors import ConfigError

    settings = settings_of(config, overrides or (), resume=resume)
    if show_config:
        if not dry_run:
            raise ConfigError("--show-config goes with --dry-run: it prints the resolved config and stops")
        typer.echo(dump_config(settings), nl=False)
        return
    if dry_run and (resume or overwrite):
        from ragdro.runs.status import finished_results

        finished_results(settings, overwrite=overwrite, resume=resume)
    if not (dry_run or resume or env_rank()):  # a finished run needs its data no more
        require_parts(settings)
    if not env_rank() and sys.stderr.isatty():  # torch takes seconds to load
        typer.echo(f"ragdro: {config}: loading", err=True)
    if (dry_run or strict) and not env_rank():  # one process reports
        _preflight(settings, strict=strict)
    if not dry_run:
        _train(settings, overwrite=overwrite, resume=resume, profile=profile)


def _preflight(settings: Config, *, strict: bool) -> None:
    """Print what is found. Raises `ConfigError` where it is a problem and `strict`."""
    from ragdro.errors import ConfigError
    from ragdro.planning.preflight import preflight
    from ragdro.report.preflight import print_findings

    findings = preflight(settings)
    print_findings(findings)
    problems = [one for one in findings if one.level == "problem"]
    if strict and problems:
        raise ConfigError(f"--strict: {problems[0].check}: {problems[0].text} (problems: {len(problems)})")


def _train(settings: Config, *, overwrite: bool, resume: bool, profile: bool) -> None:
    from ragdro.environment import env_rank
    from ragdro.planning.start import StartLines
    from ragdro.runs.run import run

    folder = Path(settings.runs) / settings.name
    if env_rank():  # one process reports, warnings too
        warnings.simplefilter("ignore")
        run(settings, overwrite=overwrite, resume=resume)
        return
    work = partial(run, settings, overwrite=overwrite, resume=resume, callbacks=[StartLines(settings)])
    if profile:
        from ragdro.report.profile import print_profile, profile_run

        print_profile(profile_run(settings, folder, work))
    else:
        work()
    report(folder)


def warmup(
    config: ConfigFile,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Run the warm-up alone: `train` with iterations=0."""
    train(config, [*(overrides or ()), "iterations=0"], dry_run=False, overwrite=overwrite, resume=resume)


def evaluate(
    run: RunPath,
    data: Annotated[Optional[str], typer.Option(help="questions; default: those the run reports on")] = None,  # noqa: UP045
    corpus: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="search in this corpus; default: candidates as in the run"),
    ] = None,
    stage: Stage = "best",
    out: Annotated[Optional[Path], path_option(help="write the predictions there (JSONL)")] = None,  # noqa: UP045
    answering: AnsweringOption = None,
    samples: SamplesOption = None,
    thoughts: ThoughtsOption = None,
    threshold: ThresholdOption = None,
    passage_attention: PassageAttentionOption = None,
    passage_memory: PassageMemoryOption = None,
    tables: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="marginal: write table and figure of the confidence into this folder"),
    ] = None,
) -> None:
    """Measure a run, or an exported folder, on a set of questions; prints one JSON object."""
    require_stage(run, stage)
    require_sources(data, corpus=corpus)
    if out is not None:
        require_spared(out, data, corpus)
    from ragdro.config.resume import place_of
    from ragdro.errors import ConfigError
    from ragdro.evaluation.answering import without_curves
    from ragdro.report.answering import write_answering
    from ragdro.runs.load import evaluate_run
    from ragdro.runs.stages import config_of, reading_in

    config = config_of(run)
    own = reading_in(config, passage_attention, passage_memory).answering
    how = answering_of(own, answering, samples, thoughts, threshold)
    if tables is not None and how.kind != "marginal":
        raise ConfigError(
            f"--tables: {how.kind} answers have no confidence; it goes with --answering marginal"
        )
    metrics = evaluate_run(run, data, stage, out, corpus, how, passage_attention, passage_memory)
    if tables is not None:
        write_answering(
            metrics["answering"],
            tables,
            f"{place_of(run, config)[1]} ({stage}): {counted(metrics['questions'], 'questions')}",
        )
    if "answering" in metrics:
        metrics["answering"] = without_curves(metrics["answering"])
    typer.echo(json.dumps(metrics, indent=2))


def report(run: RunPath) -> None:
    """Print a run's table, an example and a verdict; write its page (RUN/report.html) and curves
    (RUN/curves.png)."""
    require_own_run(run)
    from ragdro.report.evidence import judge
    from ragdro.report.figures import draw_curves
    from ragdro.report.predictions import print_example
    from ragdro.report.run_page import write_report
    from ragdro.report.tables import print_results
    from ragdro.report.verdict import print_verdict
    from ragdro.runs.load import reported_tasks

    print_results(run)
    print_example(run, reported_tasks(run))
    typer.echo(f"curves: {draw_curves(run)}")
    typer.echo(f"page: {write_report(run)}")
    print_verdict(judge(run))
