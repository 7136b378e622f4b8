"""A model cut to its first layers: against the hidden states of the whole one, and saved as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from ragdro.config import SelectorSettings
from ragdro.errors import ModelError
from ragdro.lm.load import load_language_model
from ragdro.lm.saving import save_language_model
from tests.conftest import ARCHITECTURES, byte_level, random_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_first_layers_compute_what_they_did(architecture: str, tmp_path: Path) -> None:
    whole = random_model(byte_level(), architecture, num_hidden_layers=3)
    save_language_model(whole, tmp_path / "whole")
    settings = SelectorSettings(model=str(tmp_path / "whole"), layers=2)
    cut = load_language_model(str(tmp_path / "whole"), settings, torch.device("cpu"))
    tokens = torch.arange(10, 30)[None]
    with torch.no_grad():
        states = whole.hf.get_decoder()(tokens, output_hidden_states=True).hidden_states
        expected = whole.hf.get_decoder().norm(states[2])
        assert torch.allclose(cut.hf.get_decoder()(tokens).last_hidden_state, expected, atol=1e-6)
    save_language_model(cut, tmp_path / "cut")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "cut")
    assert again.config.num_hidden_layers == 2
    assert torch.equal(again(tokens).logits, cut.hf(tokens).logits)
    with pytest.raises(ModelError, match="3 decoder layers, 4"):
        load_language_model(
            str(tmp_path / "whole"), settings.model_copy(update={"layers": 4}), torch.device("cpu")
        )
