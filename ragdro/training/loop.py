"""A training under way: what is trained, on what, how far it is, and who watches.

In: the pieces that `ragdro.train` is given. Out: what its steps share. Runs in memory and knows no disk: what
is saved and resumed is the `Checkpointer`'s affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ragdro.algorithms.base import Algorithm, Labeller
from ragdro.config import TrainingSettings
from ragdro.generation.generator import Generator
from ragdro.lm.engines.base import Engine, OwnEngine
from ragdro.system import Rag
from ragdro.training.callbacks import Callback, Checkpointer
from ragdro.training.cross_fit import held_out, held_out_log_likelihoods
from ragdro.training.diagnostics import sample_metrics
from ragdro.training.e_step import Scores, Shards
from ragdro.training.parts import REFERENCE, Records, TrainingParts
from ragdro.training.path_proposals import path_proposals
from ragdro.training.proposals import Propose, proposals
from ragdro.training.replay import Earlier, earlier_name, fresh_lists, pooled
from ragdro.training.tasks import Splits
from ragdro.training.teachers import model_orders, teacher_permutation
from ragdro.training.thoughts import Think, thinks
from ragdro.types import Draw, Permutation, Task, WeightedTask

VANILLA = "vanilla_rag"
TEACHER = "teacher-"
"""What the teacher's orders are saved as: a shard of questions under the number of its first one."""
TRAIN_STREAM = 2
"""Streams of random numbers: what each is for keeps its own, whatever the others take."""


class Training(TrainingParts):
    """A training with what watches it (`callbacks`), what it resumes from (`checkpointer`), what samples and
    what searches: `search` gives the splits of an iteration, None where they are those of the last one.
    `measured`: see `TrainingParts`."""

    def __init__(
        self,
        system: Rag,
        algorithm: Algorithm,
        settings: TrainingSettings,
        train: Sequence[Task],
        validation: Sequence[Task] = (),
        test: Sequence[Task] | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        checkpointer: Checkpointer | None = None,
        engine: Engine | None = None,
        search: Callable[[int], Splits | None] = lambda iteration: None,
        measured: Mapping[str, Records] | None = None,
    ) -> None:
        self._search = search
        self.callbacks = list(callbacks)
        self.checkpointer = checkpointer or Checkpointer()
        self.engine = engine or OwnEngine()
        state = self.checkpointer.state
        super().__init__(system, algorithm, settings, train, validation, test, state)
        self.measured = measured or {}

    def search_as(self, iteration: int) -> None:
        """Give the questions the candidates that this iteration finds."""
        searched = self._search(iteration)
        if searched is not None:
            self.train, self.validation, self.test = searched

    def emit(self, event: str, *arguments: Any, **named: Any) -> None:
        """Call the method `event` of every callback."""
        for callback in self.callbacks:
            getattr(callback, event)(*arguments, **named)

    def capture(self, name: str) -> None:
        """The snapshot of this name, if there is one, becomes its model as it is now."""
        if name in self.snapshots:
            self.snapshots[name].capture()
            self.checkpointer.save_snapshot(name)

    def ask_teacher(self) -> None:
        """Have a teacher that is a model order the training questions' candidates, where anything is to go by
        that: once, by the generator as the run starts with it."""
        settings, step = self.settings.warm_up, self.settings.e_step
        drawn = step.mixture is not None and step.mixture.teacher > 0
        if not (settings.asks_a_model and (settings.fits or drawn)):
            return
        known = self.model_orders
        missing = [task for task in self.train if task.question.id not in known]
        for start in range(0, len(missing), step.questions_per_shard):
            shard = missing[start : start + step.questions_per_shard]
            tokens = step.max_tokens_per_micro_batch
            orders = model_orders(self.system.generator, shard, settings, tokens)
            done = len(known) + start
            name = f"{TEACHER}{done}"
            self.history[name] = {t.question.id: [order] for t, order in zip(shard, orders, strict=True)}
            self.checkpointer.save_teacher(name, self.history[name])
            self.emit("on_teacher", done + len(shard), len(self.train))

    @property
    def model_orders(self) -> dict[str, Permutation]:
        """What a teacher that is a model says: an order of each training question's candidates; empty where
        none was asked."""
        shards = (shard for name, shard in self.history.items() if name.startswith(TEACHER))
        return {question: lists[0] for shard in shards for question, lists in shard.items()}

    @property
    def orders(self) -> dict[str, Permutation]:
        """The order of each training question's candidates by any teacher, for a mixture that draws by it;
        empty where none does."""
        mixture, teacher = self.settings.e_step.mixture, self.settings.warm_up.teacher
        if mixture is None or not mixture.teacher:
            return {}
        return self.model_orders or {
            task.question.id: teacher_permutation(task, len(task.candidates.passages), teacher)
            for task in self.train
        }

    @contextmanager
    def proposals(self, iteration: int) -> Iterator[Propose]:
        """Where an iteration's permutations come from, while the sampling engine serves the selector."""
        step, seed = self.settings.e_step, self.settings.seed
        with self.engine.serving(self.system.selector.model) as decoder:
            stream, orders = TRAIN_STREAM + iteration, self.orders
            propose = proposals(self.algorithm, step, seed, stream, decoder, orders)
            if self.system.asking is not None:
                propose = path_proposals(propose, self.system.asking, step, seed, stream)
            yield pooled(propose, self._earlier(), step, orders) if step.replay else propose

    def held_out_scores(
        self, generator: Any, tasks: Sequence[Task], draws: Sequence[Sequence[Draw]], max_tokens: int
    ) -> Scores:
        """log p(y|x,d_z), by a generator that has not been fitted to the question where there is
        cross-fitting."""
        return held_out_log_likelihoods(self.folds, generator, tasks, draws, max_tokens)

    def think(self, iteration: int) -> Think:
        """Where an iteration's thoughts come from: where there is cross-fitting from the generator that
        scores their answers, so that their log q is their log p."""
        step = self.settings.e_step
        own = thinks(self.settings.seed, TRAIN_STREAM + iteration, step.max_tokens_per_micro_batch)

        def think(
            generator: Generator, tasks: Sequence[Task], draws: Sequence[Sequence[Draw]]
        ) -> list[list[Draw]]:
            if generator.thinking is None:
                return [list(drawn) for drawn in draws]

            def compute(chosen: Sequence[int]) -> list[list[Draw]]:
                return own(generator, [tasks[i] for i in chosen], [draws[i] for i in chosen])

            return held_out(self.folds, tasks, compute)

        return think

    @property
    def label(self) -> Callable[[Sequence[WeightedTask]], list[WeightedTask]] | None:
        """What the algorithm wants to know of samples besides; None where that is nothing."""
        if not self.algorithm.needs_labels:
            return None
        reference = self.snapshots.get(REFERENCE)
        labeller = Labeller(
            self.system.selector,
            self.system.generator,
            self.settings.e_step.max_tokens_per_micro_batch,
            held_out=lambda tasks, compute: held_out(self.folds, tasks, compute),
            reference=None if reference is None else reference.swap_in,
        )
        return lambda weighted: self.algorithm.label(weighted, labeller)

    def shards(self, stage: str, total: int) -> Shards:
        """Shards of an E-step over `total` questions: those saved are not computed again."""
        done = 0
        self.emit("on_e_step_begin", stage, total)

        def keep(
            number: int, tasks: Sequence[Task], compute: Callable[[], list[WeightedTask]]
        ) -> list[WeightedTask]:
            nonlocal done
            saved = self.checkpointer.saved_shard(number, tasks)
            weighted = compute() if saved is None else saved
            done += len(tasks)
            self.emit("on_shard", stage, done, total, saved=saved is not None)
            if saved is None:
                self.checkpointer.save_shard(number, weighted)
            return weighted

        return keep

    def note_e_step(self, iteration: int, weighted: Sequence[WeightedTask]) -> None:
        """An iteration's samples are there: say what they say, and keep them for replay. Once an iteration:
        where a fit has been saved after it, this was saved with that."""
        if self.state.steps:
            return
        stage, metrics = stage_name(iteration), sample_metrics(weighted)
        self.emit("on_e_step", stage, weighted, metrics)
        for metric, message in self.algorithm.warnings(metrics, len(weighted[0].drawn)).items():
            self.emit("on_warning", stage, metric, message)
        step = self.settings.e_step
        if step.replay:
            name = earlier_name(iteration % step.replay)
            self.history[name] = fresh_lists(weighted, step.samples)
            self.checkpointer.save_history(name, self.history[name])
            self.capture(name)

    def _earlier(self) -> list[Earlier]:
        """What earlier iterations drew, as far as there were any."""
        names = [earlier_name(age) for age in range(self.settings.e_step.replay)]
        return [Earlier(self.snapshots[name], self.history[name]) for name in names if name in self.history]


def stage_name(iteration: int) -> str:
    """What the stage of an iteration is called."""
    return f"iteration-{iteration}" if iteration else "warm_up"


def questions_of(tasks: Sequence[Task], per_iteration: int | None, iteration: int) -> list[Task]:
    """The questions that iteration (1-based) takes: all, or the next `per_iteration` in turn."""
    if per_iteration is None or per_iteration >= len(tasks):
        return list(tasks)
    start = (iteration - 1) * per_iteration
    return [tasks[(start + i) % len(tasks)] for i in range(per_iteration)]
