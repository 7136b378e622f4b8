"""What a run folder saves of a training, and gives back to one that was killed.

In: the units of work of a training, as they are done. Out: states in `RUN/state/`, of which each is what a
killed run comes back to, and the checkpoint of every iteration. Of several processes all keep the same state,
each writes its part of the tensors, and one the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch.optim import Optimizer

from ragdro.errors import TrainingError
from ragdro.lm.snapshot import trained_parameters
from ragdro.parallel.sharding import own_parts, reshard, unshard
from ragdro.parallel.tensors import optimiser_tensors, restore_optimiser
from ragdro.parallel.world import (
    all_reduce_any,
    broadcast_from_rank0,
    is_rank0,
    own_group,
    waiting_for,
    world_size,
)
from ragdro.parallel.zero import Zero
from ragdro.profiling import phase
from ragdro.runs import shards
from ragdro.runs.folder import RunFolder
from ragdro.runs.log import MetricsLog
from ragdro.runs.saved_states import State
from ragdro.runs.signals import Preemption
from ragdro.runs.state import StateStore
from ragdro.training.callbacks import Checkpointer
from ragdro.training.evaluate import compared
from ragdro.training.m_step import Update
from ragdro.training.parts import BEST, TrainingParts
from ragdro.types import Permutation, Task, WeightedTask

_MOMENTS = "optimiser-"
"""An optimiser's moments, under its role."""
_SAMPLES = "samples"
_LISTS = "lists-"
"""What an earlier iteration drew, under its selector's name, and what the teacher said."""
E_STEP = "e_step-"
"""The shards of the E-step of an iteration that is done: `e_step-<iteration>-<shard>`."""
SHARD = "shard-"


class RunCheckpointer(Checkpointer):
    """Saves into `folder` from `state` on. Signals are obeyed only where nothing is lost; `log` says how far
    it is."""

    def __init__(self, folder: RunFolder, state: State, log: MetricsLog, preemption: Preemption) -> None:
        self.state: State = state
        self._folder, self._log, self._preemption = folder, log, preemption
        self._store = StateStore(folder.path, writes=is_rank0(), group=own_group())
        self._written: dict[str, int] = {}
        """The iteration whose checkpoint a role's model, as it is now, was written into in this session."""

    def restore(self, training: TrainingParts) -> None:
        """Put the models, the snapshots and what was drawn where they stood."""
        self._training, state, store = training, self.state, self._store
        for name, snapshot in training.snapshots.items():
            if name in state.tensors:
                snapshot.weights = store.saved(state, name).whole()
        for key in state.files:
            if key.startswith(_LISTS):
                lists = broadcast_from_rank0(partial(store.json, state, key))
                training.history[key.removeprefix(_LISTS)] = {
                    q: [tuple(z) for z in zs] for q, zs in lists.items()
                }
        for role, model in training.models.items():
            if role in state.tensors:
                reshard(model.hf)
                parameters = {name: p.detach() for name, p in trained_parameters(model).items()}
                saved = store.saved(state, role)
                shapes = {name: size for name, (size, _) in saved.kinds.items()}
                if any(shapes.get(name) != p.shape for name, p in parameters.items()):
                    raise TrainingError(f"{role}.model: the saved state is of another model")
                saved.read_into(parameters)
                unshard(model.hf)
        if state.checkpoint is not None:
            self._extend()
        if _SAMPLES in state.files:
            values = broadcast_from_rank0(partial(store.json, state, _SAMPLES))
            training.previous_samples = shards.decode(values, compared(training.validation))

    def resume_fit(self, stage: str, role: str, optimiser: Optimizer | Zero) -> int:
        """Where an interrupted fit stood (0 for a new one, all of its updates for one that is done)."""
        state, done = self.state, self.state.steps.get(role, 0)
        self._hold_together()
        moments = f"{_MOMENTS}{role}"
        if moments in state.tensors and done:
            saved = self._store.saved(state, moments)
            if isinstance(optimiser, Zero):
                optimiser.restore(saved.kinds, saved.read_into)
            else:
                restore_optimiser(optimiser, saved.kinds, saved.read_into)
        return done

    def save_fit(self, stage: str, role: str, update: Update, optimiser: Optimizer | Zero) -> None:
        """Save where it is time to, or where SIGTERM asks for it."""
        preemption, every = self._preemption, self._folder.config.checkpoints.every
        preemption.hold()
        last = update.step == update.steps
        preemption.asked = all_reduce_any(preemption.asked)  # all processes leave behind the same update
        if last or update.step % every == 0 or preemption.asked:
            with waiting_for("saving"):
                self._save_fit(role, update.step, None if last else optimiser)
            preemption.settle()
            if not last:
                self._hold_together()

    def saved_shard(self, number: int, tasks: Sequence[Task]) -> list[WeightedTask] | None:
        """See `Checkpointer`."""
        key = _shard_key(number)
        if key not in self.state.files:
            return None
        return shards.decode(self._store.json(self.state, key), tasks)

    @phase("save")
    def save_shard(self, number: int, weighted: Sequence[WeightedTask]) -> None:
        """See `Checkpointer`."""
        self._store.put_json(self.state, _shard_key(number), shards.encode(weighted))
        self._commit()
        self._preemption.leave_if_asked()

    def save_snapshot(self, name: str) -> None:
        """See `Checkpointer`."""
        part = own_parts(self._training.snapshots[name].weights)  # which are replaced, never changed
        self._store.put_model(self.state, name, lambda: ([], part))

    def save_history(self, name: str, lists: Mapping[str, Sequence[Permutation]]) -> None:
        """See `Checkpointer`."""
        self._store.put_json(self.state, f"{_LISTS}{name}", lists)

    @phase("save")
    def save_teacher(self, name: str, lists: Mapping[str, Sequence[Permutation]]) -> None:
        """See `Checkpointer`."""
        self.save_history(name, lists)
        self._commit()

    def save_samples(self, weighted: Sequence[WeightedTask]) -> None:
        """See `Checkpointer`."""
        self._store.put_json(self.state, _SAMPLES, shards.encode(weighted))

    @phase("save")
    def save_vanilla(self) -> None:
        """See `Checkpointer`."""
        self._commit()

    @phase("save")
    @waiting_for("saving")
    def save_iteration(self, iteration: int) -> None:
        """Save the pair, and point `best` at the best so far; what the E-step drew and weighted stays, for
        a retriever to learn from."""
        state, training = self.state, self._training
        self._store.settle()  # what the end of a fit has saved is known by then
        for role, model in training.models.items():
            written = self._written.get(role, state.iteration_of(role))
            if written is None:  # a state needs no checkpoint of it, and this one is waited for anyway
                self._folder.checkpoint_writer(iteration, role, model, self._store.barrier)()
            elif written != iteration:
                self._put_model(role, iteration)
            unshard(model.hf)
        lasting = {*training.models, *training.snapshots, _SAMPLES}

        def lasting_key(key: str) -> str | None:
            if key.startswith(SHARD):
                return f"{E_STEP}{iteration}-{key.removeprefix(SHARD)}"
            return key if key in lasting or key.startswith((_LISTS, E_STEP)) else None

        self._store.rename_json(state, lasting_key)
        state.tensors = {key: files for key, files in state.tensors.items() if key in lasting}
        self._commit()
        self._store.settle()
        self._point_at_best()

    @phase("save")
    @waiting_for("saving")
    def finish(self) -> None:
        """The run is done: its results are written, and what is left to extend it from."""
        state, training = self.state, self._training
        of_models = {*training.models, *(f"{BEST}{role}" for role in training.models)}
        state.tensors = {key: files for key, files in state.tensors.items() if key not in of_models}
        state.checkpoint = state.finished
        self._commit()
        self._store.settle()
        self._store.keep_last()
        self._point_at_best()
        if is_rank0():
            self._folder.write_results(state.results)

    def close(self) -> None:
        """Wait for what is still being written."""
        self._store.settle()

    @phase("save")
    def _extend(self) -> None:
        """A finished run goes further: from here on its state has the models, which were loaded from its last
        checkpoint."""
        assert self.state.checkpoint is not None
        for role, model in self._training.models.items():
            self._put_model(role, self.state.checkpoint, is_there=True)
            unshard(model.hf)
        self.state.checkpoint = None
        self._commit()

    def _put_model(self, role: str, iteration: int, *, is_there: bool = False) -> None:
        """Have the state's model of a role be the one in the checkpoint of an iteration, as it is now; unless
        that `is_there` it is written while training goes on."""
        model = self._training.models[role]
        self._store.wait_for_writes()  # no two copies are there at once
        barrier = self._store.barrier
        write = self._folder.checkpoint_writer(iteration, role, model, barrier, is_there=is_there)
        self._store.put_model(self.state, role, write)
        self._written[role] = iteration

    def _point_at_best(self) -> None:
        if is_rank0():
            needed = self._store.needed_iterations()
            self._folder.point_at_best(self.state.results, self.state.finished, needed)

    def _hold_together(self) -> None:
        """Of several processes none leaves an update alone: the others would wait for it."""
        if world_size() > 1:
            self._preemption.hold()

    @phase("save")
    def _save_fit(self, role: str, step: int, optimiser: Optimizer | Zero | None) -> None:
        """A state after `step`; no optimiser: the fit is done, and the model is that of this iteration's
        checkpoint."""
        state, store, model = self.state, self._store, self._training.model(role)
        state.steps[role] = step
        if optimiser is None and role in self._training.models:
            self._put_model(role, state.finished + 1)
        else:
            parts = {role: own_parts(trained_parameters(model))}
            if isinstance(optimiser, Zero):
                parts[f"{_MOMENTS}{role}"] = optimiser.own_moments()
            elif optimiser is not None:
                parts[f"{_MOMENTS}{role}"] = own_parts(optimiser_tensors(optimiser))
            store.put_tensors(state, parts)
        if optimiser is None:
            state.tensors.pop(f"{_MOMENTS}{role}", None)
        self._commit()

    def _commit(self) -> None:
        """A unit of work is done: make it the state that a killed run comes back to."""
        self._log.mark(self.state)
        self._store.commit(self.state)


def _shard_key(number: int) -> str:
    return f"{SHARD}{number}"
