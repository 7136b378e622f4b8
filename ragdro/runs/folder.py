"""A run on disk: `runs/<name>/`, written as the run goes, every file whole or absent.

config.yaml         the resolved config          environment.json   versions, commit, seed, machine
metrics.jsonl       one object a step or metric   predictions-<stage>.jsonl
checkpoints/iteration-N/{selector,generator}/    (0 is the warm-up), Hugging Face format
best                link to the best of them     results.json       written last: its presence means done
state/              what a run resumes from, or is extended from when it is done (`state.py`)
bad_batches/        updates that were skipped    .lock              held by the process that runs
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragdro.config import Config, dump_config, load_config
from ragdro.config.resume import resumed
from ragdro.environment import environment
from ragdro.files import remove_temporary_files, write_atomically
from ragdro.lm.load import save_language_model
from ragdro.lm.model import LanguageModel
from ragdro.parallel.sharding import weights
from ragdro.runs.lock import LOCK
from ragdro.runs.log import finite
from ragdro.runs.status import CONFIG, RESULTS
from ragdro.training.callbacks import BadBatch

CHECKPOINTS = "checkpoints"
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
        else:
            self._clear()
            write_atomically(self.path / CONFIG, dump_config(self.config))
            write_atomically(self.path / "environment.json", _json(environment(self.config.seed)))
        for folder in (self.path, *(self.path / CHECKPOINTS).glob("iteration-*")):
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

    def save_models(self, iteration: int, models: Mapping[str, LanguageModel]) -> None:
        """The checkpoint of an iteration (0: the warm-up)."""
        for role, model in models.items():
            folder = self.path / CHECKPOINTS / f"iteration-{iteration}" / role
            save_language_model(model, folder, weights(model.hf))

    def point_at_best(self, results: Mapping[str, Any], finished: int) -> None:
        """Point `best` where it belongs and remove the checkpoints that `checkpoints.keep` does not name."""
        best = results["best"]
        if best is None:
            return
        checkpoints = self.path / CHECKPOINTS
        _point(self.path / "best", Path(CHECKPOINTS) / f"iteration-{best['iteration']}")
        if self.config.checkpoints.keep == "best_and_last":
            kept = {f"iteration-{best['iteration']}", f"iteration-{finished}"}
            for folder in checkpoints.iterdir():
                if folder.name not in kept:
                    shutil.rmtree(folder)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """`results.json`: the run is done."""
        write_atomically(self.path / RESULTS, _json(finite(dict(results))))

    def _clear(self) -> None:
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def _point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, replacing the old one in one step."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
