"""What a run keeps of a fit: every update in the log, a state now and then, and the batches left out.

In: the updates that `fit` takes. Out: metrics, states that a killed fit goes on from, and
`bad_batches/<stage>-<role>-<step>.json` for each update whose loss or gradient was not finite.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from ragdro.errors import TrainingError
from ragdro.files import write_atomically
from ragdro.parallel.sharding import gather
from ragdro.parallel.world import any_of, gathered, size
from ragdro.training.checkpoint import optimiser_tensors, restore_optimiser, trained
from ragdro.training.m_step import Keeper, Update, Weighted, question_names

if TYPE_CHECKING:
    from ragdro.training.run_folder import RunFolder

_MOMENTS = "optimiser"
BAD_BATCHES = "bad_batches"


class FitKeeper(Keeper):
    """The fit of `role` ('selector', 'generator') in `stage` of `run`."""

    def __init__(self, run: RunFolder, stage: str, role: str) -> None:
        self._run, self._stage, self._role = run, stage, role
        self._name = f"{stage}: {role}"
        self._shown = False
        self._undivided = run.model(role).zero_stage is not None

    def begin(self, optimiser: Optimizer) -> int:
        """Where an interrupted fit stood (0 for a new one, all of its updates for one that is done).

        Raises `TrainingError` under ZeRO, which takes up no moments, for one that stood in the middle.
        """
        run, done = self._run, self._run.state.steps.get(self._role, 0)
        self._stay()
        if _MOMENTS in run.state.files and done and self._undivided:
            raise TrainingError(
                f"parallel.strategy: {run.config.parallel.strategy} cannot go on with the fit"
                f" '{self._name}' after {done} updates; resume with ddp or fsdp2"
            )
        if _MOMENTS in run.state.files and done:
            restore_optimiser(optimiser, run.store.tensors(run.state, _MOMENTS))
        return done

    def taken(self, update: Update, optimiser: Optimizer) -> None:
        """Log the update; save where it is time to, or where SIGTERM asks for it."""
        run = self._run
        run.preemption.hold()
        if not self._shown:
            run.display.start(self._name, update.steps, update.step - 1)
            self._shown = True
        run.display.advance(self._name)
        fields = {name: getattr(update, name) for name in Update.__slots__}
        run.log({"event": "update", "stage": self._stage, "role": self._role, **fields})
        last = update.step == update.steps
        run.preemption.asked = any_of(run.preemption.asked)  # all processes leave behind the same update
        if last or update.step % run.config.checkpoints.every == 0 or run.preemption.asked:
            if last or not self._undivided:
                self._save(update.step, None if last else optimiser)
            run.preemption.settle()
            if not last:
                self._stay()

    def skipped(self, step: int, steps: int, what: str, batch: Sequence[Weighted]) -> None:
        """Write the batch aside; raises `TrainingError` after more than `bad_batches` of them."""
        run = self._run
        folder = run.folder / BAD_BATCHES
        told = {"event": "bad_batch", "stage": self._stage, "role": self._role, "step": step, "what": what}
        sequences = [one for part in gathered([_as_record(w) for w in batch]) for one in part]
        ids = [one["question"] for one in sequences]
        path = folder / f"{self._stage}-{self._role}-{step}.json"
        if run.writes:
            folder.mkdir(exist_ok=True)
            write_atomically(path, json.dumps({**told, "sequences": sequences}) + "\n")
        run.log({**told, "questions": ids})
        run.state.bad_batches += 1
        place = f"{self._name}, update {step} of {steps}: {what} at questions {question_names(ids)}"
        if run.state.bad_batches > run.config.bad_batches:
            raise TrainingError(
                f"{place}; {run.state.bad_batches} updates were not finite, more than bad_batches ="
                f" {run.config.bad_batches}. Try a lower learning_rate, or dtype=float32 or bfloat16 in place"
                f" of float16; the batches are in {folder}"
            )
        run.display.say(f"{place}; skipped, written to {path}")

    def _stay(self) -> None:
        """Of several processes none leaves an update alone: the others would wait for it."""
        if size() > 1:
            self._run.preemption.hold()

    def _save(self, step: int, optimiser: Optimizer | None) -> None:
        """A state after `step`; no optimiser: the fit is done."""
        run = self._run
        run.state.steps[self._role] = step
        moved = {name: gather(p) for name, p in trained(run.model(self._role).hf).items()}
        run.store.put_tensors(run.state, self._role, moved)
        if optimiser is None:
            run.state.files.pop(_MOMENTS, None)
        else:
            run.store.put_tensors(run.state, _MOMENTS, optimiser_tensors(optimiser))
        run.commit()


def _as_record(weighted: Weighted) -> dict[str, Any]:
    return {
        "question": weighted.question_id,
        "weights": weighted.weights,
        "tokens": [s.tokens.tolist() for s in weighted.group.sequences],
    }
