"""A run on disk: `runs/<name>/`, written as the run goes, every file whole or absent.

config.yaml         the resolved config          environment.json   versions, commit, seed, machine
metrics.jsonl       one object a step or figure  predictions-<stage>.jsonl
checkpoints/iteration-N/{selector,generator}/    (0 is the warm-up), Hugging Face format
best                link to the best of them     results.json       written last: its presence means done
state/              what a killed run goes on from (`checkpoint.py`); gone when it is done
bad_batches/        updates that were skipped    .lock              held by the process that runs
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from ragdro.config import Config, Marginal, dump_config
from ragdro.environment import environment
from ragdro.errors import TrainingError
from ragdro.files import remove_temporary_files, write_atomically
from ragdro.lm.load import save_language_model
from ragdro.lm.model import LanguageModel
from ragdro.parallel.sharding import weights
from ragdro.parallel.world import from_main, is_main
from ragdro.profiling import phase
from ragdro.training import diagnostics, shards
from ragdro.training.checkpoint import State, StateStore, restore_parameters
from ragdro.training.e_step import Shards, WeightedTask
from ragdro.training.fitting import FitKeeper
from ragdro.training.lock import LOCK, RunLock
from ragdro.training.metrics_log import MetricsLog, SilentLog, finite
from ragdro.training.preemption import Preemption
from ragdro.training.prepare import Prepared
from ragdro.training.progress import Silent, display
from ragdro.training.reporters import open_reporters
from ragdro.training.standing import CONFIG, RESULTS, refuse_another_run
from ragdro.training.variants import LISTS, Fold, variants_of
from ragdro.types import Task

CHECKPOINTS = "checkpoints"
_SAMPLES = "samples"


class RunFolder:
    """An open run, new or gone on with. Use as a context; leaving it lets the next process in.

    `state` is where the run stands; each `commit` makes that what a killed run comes back to. Raises
    `ConfigError` where another process has the folder or another run the name, `TrainingError` where no
    saved state can be used. Of several processes all keep the same `state`, and one `writes`.
    """

    def __init__(self, config: Config, setup: Prepared, *, resume: bool) -> None:
        self.folder = Path(config.runs) / config.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.writes = is_main()
        self.config = config
        self.models = {"selector": setup.rag.selector.model, "generator": setup.rag.generator.model}
        self.variants = variants_of(config, setup.rag, setup.train)
        self.preemption = Preemption()
        self._lock: RunLock | None = None
        self.display = display() if self.writes else Silent()
        with ExitStack() as undo:
            undo.callback(self._leave)
            self.state = from_main(partial(self._begin, setup.fingerprint(), resume))
            self._restore()
            self._metrics = self._open_log()
            undo.pop_all()

    def _begin(self, questions: str, resume: bool) -> State:
        """The state to go on from; the first one for a new run."""
        self._lock = RunLock(self.folder)
        if not (resume and (self.folder / CONFIG).is_file()):
            self._clear()
            write_atomically(self.folder / CONFIG, dump_config(self.config))
            write_atomically(self.folder / "environment.json", _json(environment(self.config.seed)))
        refuse_another_run(self.config)
        for folder in (self.folder, *(self.folder / CHECKPOINTS).glob("iteration-*")):
            remove_temporary_files(folder)
        state = StateStore(self.folder).newest(self.display.say) or State(questions=questions)
        if state.questions != questions:
            raise TrainingError(f"{self.folder}: the run was begun on other questions or candidates")
        if state.serial:
            self.display.say(f"{self.folder}: going on from saved state {state.serial}")
        return state

    def _restore(self) -> None:
        """Put the models where they stood."""
        self.store = StateStore(self.folder, writes=self.writes)
        for name, variant in self.variants.items():
            if name in self.state.files:
                variant.weights = self.store.tensors(self.state, name)
        for role, model in self.models.items():
            if role in self.state.files:
                restore_parameters(model.hf, self.store.tensors(self.state, role), f"{role}.model")
            model.shares_prefixes = self.state.shares_prefixes.get(role)

    def _open_log(self) -> MetricsLog:
        if not self.writes:
            return SilentLog()
        values = self.config.model_dump(mode="json")
        reporters = open_reporters(self.config.report_to, self.folder, values, self.state.records)
        return MetricsLog(self.folder, self.state, reporters)

    def _leave(self) -> None:
        self.display.close()
        if self._lock is not None:
            self._lock.release()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def __enter__(self) -> RunFolder:
        self.preemption.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.preemption.__exit__(kind, error, trace)
        try:
            self._metrics.close()
        finally:
            self._leave()

    def model(self, role: str) -> LanguageModel:
        """The model that a fit of `role` moves: one of the pair, or a variant's."""
        return self.models[role] if role in self.models else self.variants[role].model

    def remember(self, name: str) -> None:
        """The variant of this name, if the run has it, is its model as it is now."""
        if name in self.variants:
            self.variants[name].take()
            self.store.put_tensors(self.state, name, self.variants[name].weights)

    @property
    def folds(self) -> list[Fold]:
        """The generators of cross-fitting; none without it."""
        return [variant for variant in self.variants.values() if isinstance(variant, Fold)]

    @property
    def finished(self) -> int:
        """The last iteration that was measured (0: the warm-up, -1: none)."""
        return self.state.finished

    def log(self, record: dict[str, Any]) -> None:
        """Append one object to metrics.jsonl, and tell the trackers."""
        self._metrics.log(record)

    def commit(self) -> None:
        """A unit of work is done: make it the state that a killed run comes back to."""
        self._metrics.mark(self.state)
        self.state.shares_prefixes = {role: m.shares_prefixes for role, m in self.models.items()}
        self.store.commit(self.state)

    def fitting(self, stage: str) -> Callable[[str], FitKeeper]:
        """What watches and saves the fit of a role in `stage`."""
        return lambda role: FitKeeper(self, stage, role)

    def shards(self, stage: str, total: int) -> Shards:
        """What keeps the shards of an E-step over `total` questions: those saved are not computed again."""
        name, done = f"{stage}: E-step", 0

        def keep(
            number: int, tasks: Sequence[Task], compute: Callable[[], list[WeightedTask]]
        ) -> list[WeightedTask]:
            nonlocal done
            key = f"shard-{number}"
            if not number:
                self.display.start(name, total)
            saved = self.state.files.get(key)
            weighted = compute() if saved is None else shards.decode(self.store.json(self.state, key), tasks)
            done += len(tasks)
            self.display.advance(name, len(tasks))
            if saved is None:
                self.log({"event": "shard", "stage": stage, "questions": done, "of": total})
                self.store.put_json(self.state, key, shards.encode(weighted))
                self.commit()
            return weighted

        return keep

    def log_e_step(self, iteration: int, weighted: Sequence[WeightedTask]) -> None:
        """The means of what the training samples say about the fit, once an iteration."""
        if self.state.steps:  # a fit has been saved after it, and the record with that
            return
        stage, found = f"iteration-{iteration}", diagnostics.figures(weighted)
        counts = {"questions": len(weighted), "impossible_questions": sum(w.impossible for w in weighted)}
        self.log({"event": "e_step", "stage": stage, **found, **counts})
        summed = isinstance(self.config.objective, Marginal)  # a sharp posterior is no lack of samples
        for figure, told in diagnostics.warnings(found, 1 if summed else len(weighted[0].drawn)).items():
            self.log({"event": "warning", "stage": stage, "figure": figure, "told": told})
            self.display.say(f"{stage}: {told}")

    def put_samples(self, sampled: Sequence[WeightedTask]) -> None:
        """Keep what was drawn at this stage for the next one, once this one is committed."""
        self.store.put_json(self.state, _SAMPLES, shards.encode(sampled))

    def samples(self, tasks: Sequence[Task]) -> list[WeightedTask] | None:
        """What was drawn for these questions at the stage before, None where there was none."""
        if _SAMPLES not in self.state.files:
            return None
        return shards.decode(from_main(partial(self.store.json, self.state, _SAMPLES)), tasks)

    def write_predictions(self, stage: str, records: Sequence[dict[str, Any]]) -> None:
        """`predictions-<stage>.jsonl`, one record a question."""
        if not self.writes:
            return
        lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
        write_atomically(self.folder / f"predictions-{stage}.jsonl", lines)

    def record(self, figures: dict[str, Any]) -> None:
        """The figures of vanilla RAG."""
        self.state.results["vanilla_rag"] = figures
        self.commit()

    @phase("save")
    def keep(self, iteration: int, figures: dict[str, Any], score: float) -> None:
        """Save the pair after `iteration` (0: the warm-up) and point `best` at the best so far."""
        folder, state = self.folder / CHECKPOINTS / f"iteration-{iteration}", self.state
        for role, model in self.models.items():
            if self.writes:
                save_language_model(model, folder / role, weights(model.hf))
        if iteration:
            state.results["iterations"].append(figures)
        else:
            state.results["warm_up"] = figures
        state.scores.append(-math.inf if math.isnan(score) else score)
        if state.scores.index(max(state.scores)) == iteration:
            state.results["best"] = {"iteration": iteration, **figures}
        state.finished, state.steps = iteration, {}
        lasting = {*self.models, *self.variants, _SAMPLES}
        state.files = {k: file for k, file in state.files.items() if k in lasting or k.startswith(LISTS)}
        self.commit()
        self.settle()

    def settle(self) -> None:
        """Point `best` where it belongs and remove the checkpoints that `checkpoints.keep` does not name."""
        best = self.state.results["best"]
        if best is None or not self.writes:
            return
        checkpoints = self.folder / CHECKPOINTS
        _point(self.folder / "best", Path(CHECKPOINTS) / f"iteration-{best['iteration']}")
        if self.config.checkpoints.keep == "best_and_last":
            kept = {f"iteration-{best['iteration']}", f"iteration-{self.finished}"}
            for folder in checkpoints.iterdir():
                if folder.name not in kept:
                    shutil.rmtree(folder)

    def exhausted(self, patience: int | None) -> bool:
        """Whether `patience` iterations have passed since the best one."""
        scores = self.state.scores
        return patience is not None and len(scores) - 1 - scores.index(max(scores)) >= patience

    def finish(self) -> dict[str, Any]:
        """Write and return the results; nothing is left to go on from."""
        self.settle()
        self._metrics.mark(self.state)
        results: dict[str, Any] = finite(self.state.results)
        if self.writes:
            write_atomically(self.folder / RESULTS, _json(results))
        self.store.remove()
        return results


def _point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, replacing the old one in one step."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
