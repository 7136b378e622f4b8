"""A retriever that the loop trains on the way: which iteration searches with which model, and who trains it.

RUN/retrievers/iteration-N/    the model trained after iteration N, on the lists of iterations 1 to N

Every one of them starts from `retriever.model`, so it depends on nothing but that and what was drawn so far:
one that was being trained when the run was killed is trained again, the same. In: the config of a run, an
iteration. Out: the config that this iteration searches with, and the candidates that it finds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

from ragdro.config import Config
from ragdro.config.retriever import ColbertSettings, DenseSettings, RetrieverSettings
from ragdro.config.teaching import RetrieverTraining, TaughtByTheLoop
from ragdro.errors import ConfigError, RetrievalError
from ragdro.files import rename_durably, sync
from ragdro.lm.engines.process import end_with_parent
from ragdro.parallel.world import broadcast_from_rank0, waiting_for
from ragdro.runs.checkpointer import SHARD
from ragdro.runs.saved_states import State
from ragdro.runs.setup import load_splits, prepare
from ragdro.runs.status import RETRIEVERS
from ragdro.system import Rag
from ragdro.training.tasks import Splits
from ragdro.units import counted

_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What tells a process that it is one of several."""


def taught_after(config: Config, iteration: int) -> int:
    """The iteration after which the model that `iteration` searches with was trained; 0: it is the config's
    own."""
    retriever = config.retriever
    if not isinstance(retriever, TaughtByTheLoop) or retriever.train_every is None or iteration < 1:
        return 0
    return (iteration - 1) // retriever.train_every * retriever.train_every


def taught_folder(run: Path, after: int) -> Path:
    """Where a run has the model that was trained after an iteration."""
    return run / RETRIEVERS / f"iteration-{after}"


def searched_in(config: Config, run: Path, iteration: int) -> Config:
    """The config of `run` as this iteration of it searches (0: the warm-up). Raises `ConfigError` where the
    model is gone."""
    after = taught_after(config, iteration)
    if not after:
        return config
    folder = taught_folder(run, after)
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: missing, and iteration {iteration} of the run searches with it; put it back, or train"
            " the run anew"
        )
    changes = {"model": str(folder), "revision": None}
    return config.model_copy(update={"retriever": config.retriever.model_copy(update=changes)})


def searched_at(config: Config, run: Path, checkpoint: Path) -> Config:
    """The config of `run` as the stage searches whose checkpoint this is; as it is for an exported folder."""
    number = re.fullmatch(r"iteration-([0-9]+)", checkpoint.resolve().name)
    return config if number is None else searched_in(config, run, int(number[1]))


def taught_model(config: Config, run: Path, checkpoint: Path) -> Path | None:
    """The trained model that this stage searches with; None: it is the config's own."""
    searched: RetrieverSettings = searched_at(config, run, checkpoint).retriever
    if isinstance(searched, DenseSettings | ColbertSettings) and searched != config.retriever:
        return Path(searched.model)
    return None


class LoopRetriever:
    """The candidates of each iteration's questions, from the first one on; a model that is due is trained.

    `say` takes a line on what is done."""

    def __init__(self, config: Config, run: Path, rag: Rag, state: State, say: Callable[[str], None]) -> None:
        self._config, self._run, self._rag, self._state, self._say = config, run, rag, state, say
        self._after = 0

    @waiting_for("loading")
    def __call__(self, iteration: int) -> Splits | None:
        """The splits as this iteration searches; None where that is as the last one did."""
        after = taught_after(self._config, iteration)
        if after == self._after:
            return None
        if after == self._state.finished:
            broadcast_from_rank0(partial(self._teach, after))
        config = searched_in(self._config, self._run, iteration)
        splits = load_splits(config)
        prepare(config, self._rag, splits)
        self._after = after
        return splits

    def _teach(self, after: int) -> None:
        """Train the model that is due, in a process of its own: the training library sets random numbers, and
        starts processes, of the one that it runs in."""
        folder = taught_folder(self._run, after)
        begun = any(key.startswith(SHARD) for key in self._state.files)
        if folder.is_dir() or begun:  # what was searched with is never trained again
            return
        self._say(f"teaching the retriever on the lists of {counted(after, 'iterations')}")
        folder.parent.mkdir(exist_ok=True)
        scratch = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
        scratch.mkdir()
        try:
            self._train(scratch / folder.name)
            rename_durably(scratch / folder.name, folder)
            sync(self._run)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _train(self, out: Path) -> None:
        retriever = self._config.retriever
        assert isinstance(retriever, TaughtByTheLoop)
        command = [sys.executable, "-m", "ragdro", "retriever", "train", str(self._run.absolute())]
        command += ["--out", str(out.absolute()), *options_of(retriever.training)]
        environment = {key: value for key, value in os.environ.items() if key not in _LAUNCHED}
        if self._config.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self._config.threads)
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=end_with_parent(),
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise RetrievalError(f"retriever.train_every: {said.removeprefix('ragdro: error: ')}")


def options_of(training: RetrieverTraining) -> list[str]:
    """The same as options of `ragdro retriever train`."""
    values = {key: value for key, value in training.model_dump().items() if value is not None}
    return [part for key, value in values.items() for part in (f"--{key.replace('_', '-')}", str(value))]
