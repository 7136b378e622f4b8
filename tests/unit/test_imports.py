"""What must be light stays light, and every committed config is valid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ragdro.config import dump_config, load_config
from ragdro.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize(
    "code", ["import ragdro.config", "import ragdro", "from ragdro.cli import main; main()"]
)
def test_torch_is_not_imported(code: str) -> None:
    prelude = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules))\n"
    script = f"{prelude}sys.argv[1:] = ['--help']\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_configs_resolve_and_read_back_the_same(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert path.read_text().startswith("#") and "ragdro train configs/" in path.read_text()
    (tmp_path / "resolved.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "resolved.yaml") == config


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("selctor.k=3", "selctor"),
        ("selector.kk=3", "did you mean 'selector.k'"),
        ("m_step.selector.learning_rate=-1", "m_step.selector.learning_rate"),
        ("retriever.k1=-2", "retriever.k1"),
        ("retriever.kind=bm26", "retriever"),
        (
            "retriever={kind: dense, model: m, first_stage: {kind: bm25, topp: 3}}",
            "unknown key 'retriever.first_stage.topp'; did you mean 'retriever.first_stage.top'",
        ),
        ("iterations=three", "iterations"),
        ("nonsense", "dotted.key=value"),
        ("selector.model=null", "model"),
    ],
)
def test_a_wrong_key_or_value_is_named(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        load_config(CONFIGS[0].parent / "tiny.yaml", [override])


def test_numbers_in_scientific_notation_are_numbers() -> None:
    config = load_config(CONFIGS[0].parent / "tiny.yaml", ["m_step.selector.learning_rate=1e-5"])
    assert config.m_step.selector.learning_rate == 1e-5
