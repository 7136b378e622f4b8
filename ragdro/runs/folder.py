"""A run on disk: `runs/<name>/`, written as the run goes, every file whole or absent.

config.yaml         the resolved config          environment.json   versions, commit, seed, machine, commands
metrics.jsonl       one object a step or metric   predictions-<stage>.jsonl
checkpoints/iteration-N/{selector,generator}/    (0 is the warm-up), Hugging Face format
best                link to the best of them     results.json       written last: its presence means done
state/              what a run resumes from, or is extended from when it is done (`state.py`)
bad_batches/        updates that were skipped    .lock              held by the process that runs
retrievers/iteration-N/    where the loop trains the retriever (`taught.py`)
.started_in         the folder that it was started in, where the run's own place or absolute paths need it
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ragdro.config import Config, dump_config, load_config
from ragdro.config.resume import note_root, resumed
from ragdro.environment import environment, resumed_environment
from ragdro.files import remove_temporary_files, sync, write_atomically
from ragdro.lm.model import LanguageModel
from ragdro.lm.saving import ALONE, ModelFiles, Writers, is_stored_as_it_is
from ragdro.lm.snapshot import trained_parameters
from ragdro.parallel.sharding import copied_weights
from ragdro.parallel.world import is_rank0, rank, visible, world_size
from ragdro.runs.lock import LOCK
from ragdro.runs.log import finite
from ragdro.runs.state import Written
from ragdro.runs.status import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    RESULTS,
    RETRIEVERS,
    read_json,
    role_folder,
)
from ragdro.training.callbacks import BadBatch

BAD_BATCHES = "bad_batches"


class RunFolder:
    """The files of the run that `config` describes, but for its state and its log."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = Path(config.runs) / config.name

    def begin(self, *, resume: bool) -> None:
        """Empty the folder and write what the run is made of, unless it resumes one that is there."""
        if resume and (self.path / CONFIG).is_file():
            began = load_config(self.path / CONFIG)
            write_atomically(self.path / CONFIG, dump_config(resumed(began, self.config)))
            (self.path / RESULTS).unlink(missing_ok=True)  # there, where a finished run is extended
            if (self.path / ENVIRONMENT).is_file():
                noted = resumed_environment(read_json(self.path / ENVIRONMENT), self.config.seed)
                write_atomically(self.path / ENVIRONMENT, _json(noted))
        else:
            self._clear()
            note_root(self.path, self.config)
            write_atomically(self.path / CONFIG, dump_config(self.config))
            write_atomically(self.path / ENVIRONMENT, _json(environment(self.config.seed)))
        for folder in (self.path, self.path / RETRIEVERS, *(self.path / CHECKPOINTS).glob("iteration-*")):
            remove_temporary_files(folder)

    def write_predictions(self, stage: str, records: Sequence[Mapping[str, Any]]) -> None:
        """`predictions-<stage>.jsonl`, one record a question."""
        lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
        write_atomically(self.path / f"predictions-{stage}.jsonl", lines)

    def write_bad_batch(self, batch: BadBatch, record: Mapping[str, Any]) -> Path:
        """`bad_batches/<stage>-<role>-<step>.json`: `record` and the sequences."""
        folder = self.path / BAD_BATCHES
        folder.mkdir(exist_ok=True)
        path = folder / f"{batch.stage}-{batch.role}-{batch.step}.json"
        write_atomically(path, json.dumps({**record, "sequences": batch.sequences}) + "\n")
        return path

    def checkpoint_writer(
        self,
        iteration: int,
        role: str,
        model: LanguageModel,
        barrier: Callable[[], object] = lambda: None,
        *,
        is_there: bool = False,
    ) -> Callable[[], Written]:
        """What writes the checkpoint of a role in an iteration (0: the warm-up), of the model as it is now,
        in any thread: the model may change at once; the layers of a sharded one are in parts afterwards.

        All processes ask for it and call it. Each writes a part of the weights where these can be, else the
        first writes all; `barrier` returns when all have called it. It returns what `StateStore.put_model`
        takes; where the checkpoint `is_there`, it does no more.
        """
        shared = world_size() > 1 and is_stored_as_it_is(model)
        weights, own = copied_weights(model.hf, shared=shared), model.projections
        projections = dict[str, Tensor]()
        if own is not None and is_rank0():
            projections = {n: t.to("cpu", copy=True) for n, t in own.state_dict().items()}
        named = {**weights, **{f"projections.{name}": value for name, value in projections.items()}}
        shapes = {name: p.shape for name, p in trained_parameters(model).items()}
        trained = {name: named[name] for name in shapes if name in named}
        writers = Writers(rank(), world_size(), barrier) if shared else ALONE
        files = ModelFiles(model.hf, model.tokenizer, model.adapter, weights, projections, writers)
        folder = role_folder(self.path, iteration, role)

        def write() -> Written:
            if is_there:
                there = sorted(folder.glob("*.safetensors"))
                held = _held(there, shapes)
                own = there[rank() :: world_size()]
            elif shared or is_rank0():
                files.write(folder)
                for above in (folder.parent.parent, self.path):  # a state may need it
                    sync(above)
                own = [visible(path) for path in files.own_files(folder)]
                held = _held(own, shapes)
            else:
                return [], {}
            lacking = {name: value for name, value in trained.items() if name not in held}
            return own if held else [], lacking

        return write

    def point_at_best(self, results: Mapping[str, Any], finished: int, needed: set[int]) -> None:
        """Point `best` where it belongs and remove the checkpoints that neither `checkpoints.keep` names nor
        a state needs."""
        best = results["best"]
        if best is None:
            return
        checkpoints = self.path / CHECKPOINTS
        _point(self.path / "best", Path(CHECKPOINTS) / f"iteration-{best['iteration']}")
        if self.config.checkpoints.keep == "best_and_last":
            kept = {f"iteration-{i}" for i in {best["iteration"], finished, *needed}}
            for folder in checkpoints.iterdir():
                if folder.name not in kept:
                    shutil.rmtree(folder)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """`results.json`: the run is done."""
        write_atomically(self.path / RESULTS, _json(finite(dict(results))))

    def _clear(self) -> None:
        """Whatever is there: the results first and the config last, so that what a kill leaves is a run that
        is not done."""
        for path in sorted(self.path.iterdir(), key=lambda p: (p.name == CONFIG, p.name != RESULTS)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def _held(files: Sequence[Path], trained: Mapping[str, torch.Size]) -> set[str]:
    """Which trained parameters a checkpoint's files hold as they are, float32 and under their own names: an
    adapter's, a pointer's and those of an architecture that is renamed on disk have other names."""
    held = set[str]()
    for path in files:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in trained.keys() & set(file.keys())}
        held |= {
            name
            for name, one in slices.items()
            if one.get_dtype() == "F32" and torch.Size(one.get_shape()) == trained[name]
        }
    return held


def _point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, replacing the old one in one step."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
