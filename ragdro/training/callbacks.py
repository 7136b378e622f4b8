"""What may watch a training, and what it resumes from.

A `Callback` sees the events of a training, in the order in which they happen, and changes nothing. The one
`Checkpointer` saves what is done and gives it back to a training that was interrupted. Both do nothing here;
`ragdro.runs` has those that write a run folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from ragdro.parallel.zero import Zero
from ragdro.training.m_step import Update
from ragdro.training.parts import LoopState, TrainingParts
from ragdro.types import Permutation, Task, WeightedTask


@dataclass(frozen=True, slots=True)
class BadBatch:
    """An update that was left out: its loss or gradient is not finite.

    `step` counts from 1; `problem` says what is not finite; `sequences`: for each question its id, weights
    and tokens.
    """

    stage: str
    role: str
    step: int
    steps: int
    problem: str
    sequences: Sequence[Mapping[str, Any]]


class Callback:
    """Events of a training; override those you want. `stage` is 'warm_up' or 'iteration-N'."""

    def on_train_begin(self, training: TrainingParts) -> None:
        """Everything is loaded and nothing is computed; a resumed training stands where it was saved."""

    def on_teacher(self, done: int, total: int) -> None:
        """A teacher that is a model has ordered the candidates of `done` of `total` training questions."""

    def on_e_step_begin(self, stage: str, total: int) -> None:
        """An E-step over `total` questions begins, or continues."""

    def on_shard(self, stage: str, done: int, total: int, *, saved: bool) -> None:
        """`done` of the `total` questions of an E-step are weighted; `saved`: taken from an earlier
        session."""

    def on_e_step(self, stage: str, weighted: Sequence[WeightedTask], metrics: Mapping[str, float]) -> None:
        """An E-step is done."""

    def on_warning(self, stage: str, metric: str, message: str) -> None:
        """A metric of an E-step says that the fit is in trouble, and the message what to try."""

    def on_fit_begin(self, stage: str, role: str, taken: int, steps: int) -> None:
        """A fit of `role` begins, or continues after `taken` of its `steps` updates."""

    def on_update(self, stage: str, role: str, update: Update) -> None:
        """An update of `role` ('selector', 'generator', or a generator of cross-fitting) was taken."""

    def on_bad_batch(self, batch: BadBatch) -> None:
        """An update was left out."""

    def on_measuring(self, stage: str) -> None:
        """A stage is about to be measured."""

    def on_evaluation(
        self, stage: str, split: str, metrics: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
    ) -> None:
        """A split ('validation', or 'reported': the test questions where there are any) was measured;
        `records` has one object a question. Stage 'vanilla_rag': the retriever's first K are read."""

    def on_iteration_end(self, training: TrainingParts, iteration: int) -> None:
        """An iteration (0: the warm-up) is done and measured."""

    def on_train_end(self, training: TrainingParts) -> None:
        """All is done."""


class Checkpointer:
    """What a training saves and resumes from; this one keeps nothing, so that nothing is ever resumed."""

    def __init__(self) -> None:
        self.state = LoopState()

    def restore(self, training: TrainingParts) -> None:
        """Put the models and snapshots where they stood."""

    def resume_fit(self, stage: str, role: str, optimiser: Optimizer | Zero) -> int:
        """How many updates an interrupted fit had taken; `optimiser` is put where it stood then."""
        return 0

    def save_fit(self, stage: str, role: str, update: Update, optimiser: Optimizer | Zero) -> None:
        """An update was taken."""

    def saved_shard(self, number: int, tasks: Sequence[Task]) -> list[WeightedTask] | None:
        """A shard of the E-step under way that is weighted already."""
        return None

    def save_shard(self, number: int, weighted: Sequence[WeightedTask]) -> None:
        """A shard of the E-step under way is weighted."""

    def save_snapshot(self, name: str) -> None:
        """A snapshot of weights has changed; it belongs to the next thing that is saved."""

    def save_history(self, name: str, lists: Mapping[str, Sequence[Permutation]]) -> None:
        """What an iteration drew, by question id, for replay; it belongs to the next thing that is saved."""

    def save_teacher(self, name: str, lists: Mapping[str, Sequence[Permutation]]) -> None:
        """What a teacher that is a model says of some questions, by id: as `save_history`, but at once."""

    def save_samples(self, weighted: Sequence[WeightedTask]) -> None:
        """What was drawn for validation questions, for the next stage to compare with; it belongs to the next
        thing that is saved."""

    def save_vanilla(self) -> None:
        """Vanilla RAG is measured."""

    def save_iteration(self, iteration: int) -> None:
        """The iteration (0: the warm-up) is done and measured: `state` says how."""
