"""From a `LanguageModel` to a folder that `from_pretrained` alone can load.

In: a model, or what a thread needs to write it while it is trained further. Out: weights (safetensors; of
several processes a file each, with an index), config and tokenizer, beside them a pointer's projections; of a
model with an adapter the adapter alone.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ragdro.access import naming, unwritten
from ragdro.files import finish_file, finish_files, rename_durably
from ragdro.lm.adapters import save_adapter
from ragdro.lm.model import LanguageModel
from ragdro.lm.projections import save_projections
from ragdro.lm.tokens import TextTokenizer


@dataclass(frozen=True, slots=True)
class Writers:
    """The processes that write a folder together: the `number` of this one, from 0, of how many; `barrier`
    returns when all have called it."""

    number: int
    count: int
    barrier: Callable[[], object]

    def shard(self, number: int) -> str:
        """The name of the file with a process's weights."""
        return f"model-{number + 1:05d}-of-{self.count:05d}.safetensors"


ALONE = Writers(0, 1, lambda: None)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a model's folder is written from.

    `weights`: the state of `hf`, by its names there (None: as it is when it is written); `projections`: that
    of a pointer's, else empty. Where both are copies, another thread may write while the model is trained
    further. Of several `writers` each has some of the weights, and the first of them whatever goes by two
    names and the projections.
    """

    hf: PreTrainedModel
    tokenizer: TextTokenizer
    adapter: str | None
    weights: Mapping[str, Tensor] | None
    projections: Mapping[str, Tensor]
    writers: Writers = ALONE

    def write(self, folder: Path) -> None:
        """The folder is whole or absent; one that is there is replaced. Raises `OSError` where the disk
        refuses."""
        making = folder.with_name(f".{folder.name}.tmp")
        first, alone = self.writers.number == 0, self.writers.count == 1
        if first:
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True)
        self.writers.barrier()
        try:
            with naming(folder):
                self._fill(making) if first else self._fill_shard(making)
            self.writers.barrier()
            if first:
                if not alone:
                    self._join_shards(making)
                if folder.exists():
                    shutil.rmtree(folder)
                rename_durably(making, folder)
            self.writers.barrier()
        except SafetensorError as error:
            raise unwritten(error, folder) from error
        finally:
            if alone:
                shutil.rmtree(making, ignore_errors=True)

    def own_files(self, folder: Path) -> list[Path]:
        """The files with tensors that this process wrote into the folder."""
        shards = [folder / self.writers.shard(number) for number in range(self.writers.count)]
        own = shards.pop(self.writers.number)
        if self.writers.number:
            return [own]
        return sorted(path for path in folder.glob("*.safetensors") if path not in shards)

    def _fill(self, folder: Path) -> None:
        weights = None if self.weights is None else dict(self.weights)  # which is emptied
        if self.adapter is None:
            limit = "50GB" if self.writers.count == 1 else sys.maxsize
            self.hf.save_pretrained(folder, state_dict=weights, max_shard_size=limit)
        else:
            save_adapter(self.hf, self.adapter, folder, weights)
        self.tokenizer.hf.save_pretrained(folder)
        if self.projections:
            save_projections(self.projections, folder)
        finish_files(folder)

    def _fill_shard(self, folder: Path) -> None:
        """Transformers writes in the first process alone."""
        assert self.weights is not None
        folder.mkdir(exist_ok=True)  # which another machine has made, and this one asks about
        path = folder / _unfinished_shard(self.writers.number)
        tensors = {name: tensor.contiguous() for name, tensor in self.weights.items()}
        save_file(tensors, path, metadata={"format": "pt"})
        finish_file(path)

    def _join_shards(self, folder: Path) -> None:
        """Have the parts be one model: under their names, and with an index."""
        weight_map, size = dict[str, str](), 0
        for number in range(self.writers.count):
            path = folder / self.writers.shard(number)
            (folder / (_unfinished_shard(number) if number else SAFE_WEIGHTS_NAME)).replace(path)
            with safe_open(path, "pt") as file:
                weight_map |= dict.fromkeys(file.keys(), path.name)
            with path.open("rb") as content:
                size += path.stat().st_size - 8 - int.from_bytes(content.read(8), "little")
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        path = folder / SAFE_WEIGHTS_INDEX_NAME
        path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        finish_file(path)


def _unfinished_shard(number: int) -> str:
    """Another name than a model's, for transformers clears up what it takes for an earlier model's file."""
    return f"part-{number + 1:05d}.safetensors"


def is_stored_as_it_is(model: LanguageModel) -> bool:
    """Whether a model's files have its weights, all of them and by its own names, so that several processes
    can write some each. It is not so with adapters, and where transformers stores other tensors than it
    computes with (a mixture of experts)."""
    if model.adapter is not None:
        return False
    parameters = model.hf.named_parameters()
    state = {name: torch.empty(p.shape, dtype=p.dtype, device="meta") for name, p in parameters}
    return bool(revert_weight_conversion(model.hf, state).keys() == state.keys())


def files_of(model: LanguageModel, weights: Mapping[str, Tensor] | None = None) -> ModelFiles:
    """What the folder of a model is written from as it is then. `weights` stand for its own where it could
    not give them itself."""
    projections = {} if model.projections is None else model.projections.state_dict()
    return ModelFiles(model.hf, model.tokenizer, model.adapter, weights, projections)


def save_language_model(
    model: LanguageModel, folder: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write the folder of a model as it is now; see `files_of`."""
    files_of(model, weights).write(folder)
