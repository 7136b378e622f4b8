"""A study from start to end: runs, measurements, and the folder that is left.

RUNS/studies/NAME/
  runs/VARIANT-SEED/      ordinary run folders      logs/       what they said
  table.csv, table.md     and table-*.csv           figure.png, figure.svg
  command.sh              the exact command         study.json  what the study was and found
  index.html              all of it on one page, which needs nothing else
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ragdro.environment import environment
from ragdro.errors import ConfigError
from ragdro.files import write_atomically
from ragdro.report import html
from ragdro.report.plot import draw
from ragdro.report.studies import STUDY, study_section
from ragdro.runs.lock import LOCK, RunLock
from ragdro.studies.plan import Plan, slug
from ragdro.studies.records import Run
from ragdro.studies.result import StudyResult
from ragdro.studies.work import MEASURED, carry_out, measured_file, measuring_jobs, training_jobs
from ragdro.units import counted


def run_study(plan: Plan, *, jobs: int = 2, resume: bool = False, overwrite: bool = False) -> StudyResult:
    """Do what the plan says that is not done yet, and write the study's folder.

    Raises `ConfigError` where the folder exists and neither `resume` nor `overwrite` is set, `TrainingError`
    naming a run that failed.
    """
    _begin(plan, resume=resume, overwrite=overwrite)
    lock = RunLock(plan.folder)
    try:
        title = f"study {plan.study.name}"
        carry_out(title, training_jobs(plan), jobs)
        if plan.study.measure is not None:
            (plan.folder / MEASURED).mkdir(exist_ok=True)
            carry_out(f"{title}, measuring", measuring_jobs(plan, plan.study.measure), jobs)
        outcome = plan.study.conclude(read_runs(plan))
        write(plan, outcome)
        return outcome
    finally:
        lock.release()


def read_runs(plan: Plan) -> dict[str, dict[int, Run]]:
    """The finished runs by variant and seed."""
    by_variant: dict[str, dict[int, Run]] = {}
    for run in plan.runs:
        measured = None if plan.study.measure is None else measured_file(plan, run)
        by_variant.setdefault(run.variant, {})[run.seed] = Run.read(run.folder, measured)
    return by_variant


def write(plan: Plan, outcome: StudyResult) -> None:
    """The study's tables, figure, command and page."""
    folder, study = plan.folder, plan.study
    titles = list(outcome.tables)
    for title, sheet in outcome.tables.items():
        name = "table.csv" if title == titles[0] else f"table-{slug(title)}.csv"
        write_atomically(folder / name, sheet.as_csv())
    description = describe(plan, outcome)
    write_atomically(folder / "table.md", _markdown(plan, outcome, description["notes"]))
    draw(outcome.panels, _title(plan), folder / "figure.png", folder / "figure.svg")
    write_atomically(folder / "command.sh", f"#!/bin/sh\n{plan.command}\n")
    write_atomically(folder / STUDY, json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    page = html.page(f"Study: {study.name}", [html.paragraph(study.about), study_section(folder)])
    write_atomically(folder / "index.html", page)


def describe(plan: Plan, outcome: StudyResult) -> dict[str, Any]:
    """What study.json holds."""
    seeds = len(plan.seeds)
    spread = f"mean ± half of the 95 % interval (Student's t) over {seeds} seeds, the same questions for all"
    return {
        "study": plan.study.name,
        "about": plan.study.about,
        "command": plan.command,
        "seeds": list(plan.seeds),
        "variants": {name: list(changes) for name, changes in plan.study.variants.items()},
        "notes": [*plan.study.notes, spread if seeds > 1 else "one seed: no intervals"],
        "findings": list(outcome.findings),
        "tables": {
            title: {"columns": sheet.columns, "rows": sheet.shown()}
            for title, sheet in outcome.tables.items()
        },
        "environment": environment(plan.seeds[0]),
    }


def _title(plan: Plan) -> str:
    run = plan.runs[0].config
    many = "one seed" if len(plan.seeds) == 1 else f"{len(plan.seeds)} seeds, bars: 95 % intervals"
    return (
        f"{plan.study.name} ({Path(plan.config).stem}, up to {counted(run.iterations, 'iterations')}; {many})"
    )


def _markdown(plan: Plan, outcome: StudyResult, notes: list[str]) -> str:
    parts = [f"# {plan.study.name}: {plan.study.about}\n", f"```\n{plan.command}\n```\n"]
    for title, sheet in outcome.tables.items():
        parts += [f"## {title}\n", sheet.as_markdown()]
    parts += ["".join(f"- {line}\n" for line in (*outcome.findings, *notes))]
    return "\n".join(parts)


def _begin(plan: Plan, *, resume: bool, overwrite: bool) -> None:
    if overwrite and resume:
        raise ConfigError("overwrite=True and resume=True exclude each other")
    folder = plan.folder
    if folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        if not (resume or overwrite):
            raise ConfigError(
                f"{folder} exists; pass resume=True to resume it or overwrite=True to replace it"
            )
        if overwrite:
            lock = RunLock(folder)
            shutil.rmtree(folder)
            lock.release()
    folder.mkdir(parents=True, exist_ok=True)
