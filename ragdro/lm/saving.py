"""From a `LanguageModel` to a folder that `from_pretrained` alone can load.

In: a model, or what a thread needs to write it while it is trained further. Out: weights (safetensors),
config and tokenizer, beside them a pointer's projections; of a model with an adapter the adapter alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel

from ragdro.access import naming, unwritten
from ragdro.files import finish_files, rename_durably
from ragdro.lm.adapters import save_adapter
from ragdro.lm.model import LanguageModel
from ragdro.lm.projections import save_projections
from ragdro.lm.tokens import TextTokenizer


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a model's folder is written from.

    `weights`: the state of `hf`, by its names there (None: as it is when it is written); `projections`: that
    of a pointer's, else empty. Where both are copies, another thread may write while the model is trained
    further.
    """

    hf: PreTrainedModel
    tokenizer: TextTokenizer
    adapter: str | None
    weights: Mapping[str, Tensor] | None
    projections: Mapping[str, Tensor]

    def write(self, folder: Path) -> None:
        """The folder is whole or absent; one that is there is replaced. Raises `OSError` where the disk
        refuses."""
        making = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        try:
            with naming(folder):
                self._fill(making)
                finish_files(making)
            if folder.exists():
                shutil.rmtree(folder)
            rename_durably(making, folder)
        except SafetensorError as error:
            raise unwritten(error, folder) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _fill(self, folder: Path) -> None:
        weights = None if self.weights is None else dict(self.weights)  # which is emptied
        if self.adapter is None:
            self.hf.save_pretrained(folder, state_dict=weights)
        else:
            save_adapter(self.hf, self.adapter, folder, weights)
        self.tokenizer.hf.save_pretrained(folder)
        if self.projections:
            save_projections(self.projections, folder)


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
