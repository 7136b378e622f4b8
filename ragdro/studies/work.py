"""A study's processes: runs in parallel, each the ordinary `ragdro train`, resumed where they were
stopped.

In: jobs, how many at once. Out: nothing but what the jobs leave. Whatever ends this process (Ctrl-C,
SIGTERM, a job that fails) ends the jobs, which save what they have; the same command with --resume continues.
Where the platform can, a job is a fork of a process that has imported everything: that takes longer than an
iteration of the embedded default.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from ragdro.errors import TrainingError
from ragdro.progress import display
from ragdro.report.history import read_history
from ragdro.runs.signals import Preemption
from ragdro.runs.status import CONFIG
from ragdro.studies.plan import Plan, RunSpec

MEASURED = "measured"
PRELOADED = ["ragdro.cli", "ragdro.runs.run", "ragdro.retrieval.bm25", "matplotlib.pyplot"]
_VARIABLES = {"OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""One thread a run; and whoever asks, while it is imported, whether there is a GPU must not start CUDA, which
no fork survives."""
_POLL_SECONDS = 0.5
_LOOK_EVERY = 10
"""Polls from one look at what running jobs have done to the next: a look reads their logs."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command of ours to run. `units` is how much work it is, `done` how much of that is done by now."""

    name: str
    arguments: tuple[str, ...]
    units: int
    done: Callable[[], int]
    log: Path


def training_jobs(plan: Plan) -> list[Job]:
    """A job for each run; a unit is a measured stage."""

    def job(run: RunSpec) -> Job:
        arguments = ("ragdro", "train", str(plan.config), *run.overrides, "--resume")
        name, stages = run.config.name, run.config.iterations + 1
        return Job(
            name, arguments, stages, lambda: _stages(run, stages), plan.folder / "logs" / f"{name}.log"
        )

    return [job(run) for run in plan.runs]


def measuring_jobs(plan: Plan, module: str) -> list[Job]:
    """A job for each run that leaves `measured_file`."""

    def job(run: RunSpec) -> Job:
        out, name = measured_file(plan, run), f"{run.config.name}: measuring"
        log = plan.folder / "logs" / f"{run.config.name}-measuring.log"
        return Job(name, (module, str(run.folder), str(out)), 1, lambda: int(out.is_file()), log)

    return [job(run) for run in plan.runs]


def measured_file(plan: Plan, run: RunSpec) -> Path:
    """Where a study's own measurement of a run is written."""
    return plan.folder / MEASURED / f"{run.config.name}.json"


def carry_out(title: str, jobs: Sequence[Job], at_once: int) -> None:
    """Do the jobs that are not done. Raises `TrainingError` naming a job that failed and its log."""
    progress = {job.name: job.done() for job in jobs}
    waiting = [job for job in jobs if progress[job.name] < job.units]
    running: dict[str, tuple[Job, BaseProcess]] = {}
    show = display()
    show.start(title, sum(job.units for job in jobs), sum(progress.values()))
    with Preemption() as preemption, _environment(_VARIABLES):
        try:
            polls, context = 0, _context()
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    running[job.name] = (job, _start(job, context))
                time.sleep(_POLL_SECONDS)
                preemption.leave_if_asked()
                polls += 1
                for job, process in list(running.values()):
                    code = process.exitcode
                    looked = code is not None or polls % _LOOK_EVERY == 0
                    if looked and (reached := job.done()) > progress[job.name]:
                        show.advance(title, reached - progress[job.name])
                        progress[job.name] = reached
                    if code is not None:
                        del running[job.name]
                        _refuse_failure(job, code)
                        show.say(f"{job.name}: done")
        finally:
            _stop([process for _, process in running.values()])
            show.close()


def _context() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Processes that are started meanwhile have these variables."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _start(job: Job, context: BaseContext) -> BaseProcess:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    process: BaseProcess = context.Process(target=_run, args=(job.arguments, job.log))  # type: ignore[attr-defined]
    process.start()
    return process


def _run(arguments: Sequence[str], log: Path) -> None:
    """`python -m ARGUMENTS` in a session of its own: a Ctrl-C in the terminal reaches it through us alone."""
    if hasattr(os, "setsid"):
        os.setsid()
    with log.open("ab") as out, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.argv[1:] = arguments[1:]
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _refuse_failure(job: Job, code: int) -> None:
    if code == 0 and job.done() >= job.units:
        return
    said = job.log.read_text(encoding="utf-8", errors="replace") if job.log.is_file() else ""  # it never ran
    lines = said.strip().splitlines()
    last = lines[-1].removeprefix("ragdro: error: ")[:300] if lines else "it said nothing"
    raise TrainingError(f"{job.name}: ended with exit code {code}: {last} (all of it: {job.log})")


def _stages(run: RunSpec, stages: int) -> int:
    """The stages of a run that are measured; all of them when it is finished, however early it stopped."""
    if run.is_finished:
        return stages
    if not (run.folder / CONFIG).is_file():
        return 0
    return min(stages - 1, len(read_history(run.folder).evaluations("reported")))
