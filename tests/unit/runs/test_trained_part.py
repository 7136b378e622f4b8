"""What a run says it trains."""

from pathlib import Path

import pytest

from ragdro import load_config
from ragdro.runs.models import trained_part

TINY = Path(__file__).parents[3] / "configs/tiny.yaml"
POINTER = ["selector.kind=pointer", "selector.pointer.score=attention"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "all weights"),
        (["selector.adapter=lora"], "a lora adapter"),
        ([*POINTER, "selector.pointer.frozen=true"], "its pointer's weights alone"),
        ([*POINTER, "selector.pointer.frozen=false"], "all weights"),
        ([*POINTER, "selector.pointer.frozen=true", "train_selector=false"], "warmed up only"),
    ],
)
def test_what_is_trained_of_a_selector(keys: list[str], words: str) -> None:
    config = load_config(TINY, keys)
    assert trained_part(config, "selector") == words
    assert trained_part(config, "generator") == "all weights"
