"""What a pointer selector adds to its model: two projections of hidden states and a scale.

In: hidden states of the passages' ends and of the prompt's end. Out: a score for each passage, the scaled
cosine of both projected states, and one for "enough". All of it is float32 and is kept in a file of its own
beside the model's, so that the model stays one that others load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module, Parameter

from ragdro.errors import ConfigError, ModelError
from ragdro.hub import find_file
from ragdro.lm.heads import HeadWeights

PROJECTIONS_FILE = "projections.safetensors"
"""What the folder of a pointer's model has and that of another has not."""


class Projections(Module):
    """`passage` and `query` [width, hidden]: what states are multiplied by before their cosine is taken,
    equal at the start, so that a passage's score begins as the cosine of the states themselves: the identity
    where `width` is the hidden size, else rows of length 1 at right angles, drawn from `seed`.

    `log_scale`: the logarithm of what the cosine is multiplied by. It is learned, because how sure a selector
    should be depends on its data, and no fixed scale suits the first update and the last. `enough` [width]:
    the score of stopping is the mean of the passages' scores and scale * enough . query; it begins as 0, so
    that stopping competes as an average passage does.
    """

    def __init__(self, hidden: int, width: int | None = None, scale: float = 10.0, seed: int = 0) -> None:
        super().__init__()
        start = torch.eye(hidden)
        if width is not None and width > hidden:
            raise ConfigError(
                f"selector.pointer.width: {width} is more than the model's hidden size, {hidden}; give at"
                " most that, or null"
            )
        if width is not None and width != hidden:
            drawn = torch.randn(hidden, width, generator=torch.Generator().manual_seed(seed))
            start = torch.linalg.qr(drawn)[0].T.contiguous()
        self.passage = Parameter(start.clone())
        self.query = Parameter(start.clone())
        self.enough = Parameter(torch.zeros(len(start)))
        self.log_scale = Parameter(torch.tensor(math.log(scale)))

    def forward(
        self,
        ends: Float[Tensor, "passages hidden"],
        last: Float[Tensor, "questions hidden"],
        owners: Int[Tensor, " passages"],
    ) -> tuple[Float[Tensor, " passages"], Float[Tensor, " questions"]]:
        """The score of each passage of question `owners[passage]`, and of "enough" for each question."""
        dtype = self.passage.dtype
        passages = F.normalize(ends.to(dtype) @ self.passage.T, dim=-1)
        queries = F.normalize(last.to(dtype) @ self.query.T, dim=-1)
        scale = self.log_scale.exp()
        scores = scale * (passages * queries[owners]).sum(-1)
        nothing = torch.zeros(len(last), dtype=dtype, device=scores.device)
        count = nothing.index_add(0, owners, torch.ones_like(scores))
        mean = nothing.index_add(0, owners, scores) / count
        return scores, mean + scale * (queries @ self.enough)


def save_projections(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write their state into the folder of their model."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(tensors, folder / PROJECTIONS_FILE)


def saved_projections(
    source: str, hidden: int, heads: int, revision: str | None = None
) -> Projections | HeadWeights | None:
    """Those that lie beside a model (a folder or hub name) of so many `hidden` dimensions, or the weights of
    its so many attention `heads`; None where there are neither. Raises `ModelError` for a file that is
    damaged or another model's."""
    path = find_file(source, PROJECTIONS_FILE, revision)
    if path is None:
        return None
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    width = tensors["passage"].shape[0] if "passage" in tensors else hidden
    made = HeadWeights(heads) if "heads" in tensors else Projections(hidden, width)
    shapes = {name: value.shape for name, value in made.state_dict().items()}
    if shapes != {name: value.shape for name, value in tensors.items()}:
        raise ModelError(
            f"{path}: not the projections of a model with hidden size {hidden} and {heads} attention heads"
        )
    made.load_state_dict(tensors)
    return made
