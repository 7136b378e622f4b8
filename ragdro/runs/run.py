"""A run: the training that a config describes, in a folder of its own.

In: a `Config`. Out: `runs/<name>/` with the trained pair and its metrics. The training itself is
`ragdro.training.em`, which knows nothing of the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from ragdro.config import Config
from ragdro.errors import LostProcessError, OutOfMemoryError, TrainingError
from ragdro.parallel.world import all_gather_object, broadcast_from_rank0, is_rank0, joined, see_alike
from ragdro.progress import Silent, display
from ragdro.runs.callbacks import FolderCallback, LogCallback, StartCallback
from ragdro.runs.checkpointer import RunCheckpointer
from ragdro.runs.fingerprint import began_on, fingerprint_of
from ragdro.runs.folder import RunFolder
from ragdro.runs.garbage import settled, uncollected
from ragdro.runs.lock import RunLock
from ragdro.runs.log import MetricsLog, SilentLog, finite
from ragdro.runs.measured import measured_before
from ragdro.runs.saved_states import State
from ragdro.runs.setup import Setup, set_up
from ragdro.runs.signals import Preemption
from ragdro.runs.state import StateStore
from ragdro.runs.status import CONFIG, finished_results, kept_checkpoint, refuse_another_run
from ragdro.runs.taught import LoopRetriever
from ragdro.runs.trackers import open_trackers
from ragdro.runs.warm_start import dated
from ragdro.training.callbacks import Callback
from ragdro.training.display import DisplayCallback, LightsCallback
from ragdro.training.em import expectation_maximisation
from ragdro.training.loop import Training
from ragdro.training.memory import is_out_of_memory
from ragdro.training.parts import Records


def run(
    config: Config, *, overwrite: bool = False, resume: bool = False, callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Train what `config` describes and return what `results.json` holds.

    Raises a `RagdroError` for input that cannot be used, before the run folder exists; `overwrite` replaces
    an earlier run of the same name, `resume` resumes it from its last saved state and ends with what an
    uninterrupted run ends with; a finished one is extended where `config` has more iterations. Started by
    `torchrun`, its processes share the work; `callbacks` are called in each of them.
    """
    with joined(config.device, config.parallel.timeouts):
        see_alike(Path(config.runs) / config.name)
        done = broadcast_from_rank0(partial(finished_results, config, overwrite=overwrite, resume=resume))
        if done is not None:
            return done
        dated_config = broadcast_from_rank0(partial(dated, config, resume=resume))
        checkpoint = broadcast_from_rank0(partial(kept_checkpoint, config, resume=resume))
        with uncollected():
            setup = _set_up(dated_config, checkpoint)
        with settled():
            return _run(dated_config, setup, resume, callbacks)


def _set_up(config: Config, checkpoint: Path | None) -> Setup:
    try:
        return set_up(config, checkpoint)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            "loading: out of memory; take device=cpu, a smaller model, or an adapter on weights of 16 bits"
            " (selector.adapter=lora selector.dtype=bfloat16)"
        ) from error


def _run(config: Config, setup: Setup, resume: bool, callbacks: Sequence[Callback]) -> dict[str, Any]:
    folder, preemption = RunFolder(config), Preemption()
    folder.path.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(setup.engine.close)
        shown = display(transient=True) if is_rank0() else Silent()
        stack.callback(shown.close)
        setup.engine.say, setup.engine.gather = shown.say, all_gather_object

        def lock() -> None:
            stack.callback(RunLock(folder.path).release)

        broadcast_from_rank0(lock)
        state = _state(config, folder.path, setup, resume, shown.say)
        broadcast_from_rank0(partial(folder.begin, resume=resume))
        if state.serial:
            shown.say(f"{folder.path}: resuming from saved state {state.serial}")
        log = _open_log(config, folder, state)
        stack.callback(log.close)
        own: list[Callback] = [LogCallback(log)]
        if is_rank0():
            own += [StartCallback(config, shown), FolderCallback(folder, shown)]
            own += [DisplayCallback(shown), LightsCallback(shown)]
        checkpointer = RunCheckpointer(folder, state, log, preemption)
        stack.push(partial(_close, checkpointer))
        training = Training(
            setup.rag,
            setup.algorithm,
            config,
            setup.train,
            setup.validation,
            setup.test,
            callbacks=[*own, *callbacks],
            checkpointer=checkpointer,
            engine=setup.engine,
            search=LoopRetriever(config, folder.path, setup.rag, state, shown.say),
            measured=broadcast_from_rank0(partial(_measured, config, setup)),
        )
        with preemption:
            measured = state.scores[-1][0] if state.scores else 0
            training.search_as(measured)  # what was drawn then, which is restored, is of these candidates
            results = expectation_maximisation(training)
            checkpointer.finish()
    finished: dict[str, Any] = finite(results)
    return finished


def _state(config: Config, folder: Path, setup: Setup, resume: bool, say: Callable[[str], None]) -> State:
    """The state to resume from, or the first one of a new run; nothing is written. All processes ask for it,
    and hash some of the files each. Raises a `RagdroError` for a run that was begun in another way."""

    def is_begun() -> bool:
        if not resume or not (folder / CONFIG).is_file():
            return False
        refuse_another_run(config)
        return True

    state = (StateStore(folder).newest(say) if broadcast_from_rank0(is_begun) else None) or State()
    start = setup.warm_start
    described = {} if start is None else start.described()

    def checked() -> State:
        if state.serial and not began_on(state.questions, *setup.splits):
            raise TrainingError(
                f"{folder}: the run began on other questions, answers, labels or passages; resume it with"
                " those, or give the run another name"
            )
        state.questions = fingerprint_of(*setup.splits)
        if start is not None:
            start.note(state, described)
        return state

    return broadcast_from_rank0(checked)


def _measured(config: Config, setup: Setup) -> Mapping[str, Records]:
    reported = setup.validation if setup.test is None else setup.test
    return measured_before(config, setup.warm_start, reported)


def _close(checkpointer: RunCheckpointer, kind: object, error: BaseException | None, trace: object) -> None:
    """Wait for what is still being written, but not for a process that does not come: it has a part of it."""
    if not isinstance(error, LostProcessError):
        checkpointer.close()


def _open_log(config: Config, folder: RunFolder, state: State) -> MetricsLog:
    if not is_rank0():
        return SilentLog()
    values = config.model_dump(mode="json")
    return MetricsLog(folder.path, state, open_trackers(config.report_to, folder.path, values, state.records))
