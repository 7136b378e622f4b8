"""What is refused before DeepSpeed is asked for anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ragdro.config import load_config
from ragdro.errors import ConfigError
from ragdro.parallel.zero import require_deepspeed

TINY = Path(__file__).parents[3] / "configs/tiny.yaml"


@pytest.mark.parametrize("strategy", ["deepspeed-zero2", "deepspeed-zero3"])
def test_a_missing_library_is_named_with_its_key_and_extra(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # as where it is not installed
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    with pytest.raises(ConfigError) as refused:
        require_deepspeed(load_config(TINY, [f"parallel.strategy={strategy}"]))
    assert str(refused.value) == (
        f"parallel.strategy: {strategy} needs deepspeed, which is not installed;"
        " pip install 'ragdro[deepspeed]'"
    )
    require_deepspeed(load_config(TINY, ["parallel.strategy=fsdp2"]))
