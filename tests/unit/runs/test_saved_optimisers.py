"""An optimiser's state, saved and restored: the same steps follow, whatever its library."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import AdamW

from ragdro.config import Optimisation, load_config
from ragdro.errors import ConfigError, TrainingError
from ragdro.lm.snapshot import load_parameters, trained_parameters
from ragdro.parallel.tensors import optimiser_tensors, restore_optimiser
from ragdro.runs.saved_states import State
from ragdro.runs.setup import set_up
from ragdro.runs.state import StateStore
from ragdro.training.optimisers import make_optimiser
from tests.pipeline.test_train import write_config
from tests.worlds import pocket_rag

_CODE_BOOK = torch.linspace(-1, 1, 256)


class EightBits(torch.optim.Optimizer):
    """Stands in for bitsandbytes' optimisers: state of the same kinds (an int, bytes, scales, and one code
    book that all parameters share); a momentum that is quantised after every step."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float, **rest: object) -> None:
        super().__init__(parameters, {"lr": lr})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Bytes stay bytes, as bitsandbytes' own method has it."""
        for index, parameter in enumerate(self.param_groups[0]["params"]):
            self.state[parameter] = dict(state_dict["state"][index])

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            state, gradient = self.state[parameter], parameter.grad
            if not state:
                state.update(step=0, state1=torch.full(gradient.shape, 127, dtype=torch.uint8))
                state.update(absmax1=torch.ones(1), qmap1=_CODE_BOOK)
            assert isinstance(state["step"], int) and state["state1"].dtype == torch.uint8
            state["step"] += 1
            momentum = 0.9 * state["qmap1"][state["state1"].long()] * state["absmax1"] + gradient
            state["absmax1"] = momentum.abs().max()[None]
            state["state1"] = ((momentum / state["absmax1"] + 1) * 127.5).round().to(torch.uint8)
            parameter -= self.param_groups[0]["lr"] * momentum / state["step"]


@pytest.mark.parametrize("kind", ["adamw", "adamw-8bit", "paged-adamw-8bit"])
def test_an_optimiser_gone_on_with_takes_the_same_steps(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optim = SimpleNamespace(AdamW8bit=EightBits, PagedAdamW8bit=EightBits)
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(optim=optim))
    models = [pocket_rag(tie_word_embeddings=True).selector.model for _ in range(2)]
    settings = Optimisation(optimiser=kind, learning_rate=1e-2)  # type: ignore[arg-type]
    optimisers = [make_optimiser(m, settings, sharded=False) for m in models]
    assert all(isinstance(o, AdamW if kind == "adamw" else EightBits) for o in optimisers)

    def step(which: int, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        for parameter in models[which].hf.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimisers[which].step()

    for number in range(3):
        step(0, number)
    store, state = StateStore(tmp_path), State()
    store.put_tensors(state, {"selector": trained_parameters(models[0])})
    store.put_tensors(state, {"optimiser": optimiser_tensors(optimisers[0])})
    store.commit(state)
    store.settle()
    load_parameters(models[1], store.saved(state, "selector").whole(), "selector.model")
    saved = store.saved(state, "optimiser")
    restore_optimiser(optimisers[1], saved.kinds, saved.read_into)
    for which in (0, 1):
        step(which, 3)
    for a, b in zip(models[0].hf.parameters(), models[1].hf.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(TrainingError, match=r"selector\.model"):
        load_parameters(models[1], {"w": torch.zeros(1)}, "selector.model")


@pytest.mark.parametrize("key", ["warm_up.selector", "m_step.generator"])
def test_an_optimiser_whose_library_is_missing_is_refused_by_its_key(key: str, tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path), [f"{key}.optimiser=adamw-8bit"])
    with pytest.raises(ConfigError, match=rf"^{key}\.optimiser: adamw-8bit needs bitsandbytes"):
        set_up(config)
