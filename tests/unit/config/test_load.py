"""Overrides change the key that they name and no other."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import pytest
import yaml

from ragdro.config import dump_config, load_config, with_prompt_date
from ragdro.config.yaml import parse_yaml
from ragdro.errors import ConfigError

SOURCE = """
data: {train: a.jsonl, validation: b.jsonl, corpus: c.jsonl}
selector: {model: m}
generator: {model: m}
warm_up:
  selector: &fit {learning_rate: 1e-3, epochs: 2}
  generator: *fit
m_step:
  selector: *fit
"""


def test_an_override_leaves_the_other_places_of_a_yaml_alias_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SOURCE)
    plain = load_config(path)
    changed = load_config(path, ["warm_up.selector.learning_rate=5e-6", "m_step.selector.epochs=1"])
    assert changed.warm_up.selector is not None and changed.warm_up.selector.learning_rate == 5e-6
    assert changed.warm_up.selector.epochs == 2
    assert changed.warm_up.generator == plain.warm_up.generator
    assert changed.m_step.selector.learning_rate == 1e-3 and changed.m_step.selector.epochs == 1


@pytest.mark.parametrize("strategy", ["fsdp2", "deepspeed-zero2", "deepspeed-zero3"])
@pytest.mark.parametrize(
    "other", ["cross_fitted=true", "selector.adapter=lora", "m_step.selector.optimiser=adamw-8bit"]
)
def test_what_cannot_be_sharded_is_refused(other: str, strategy: str) -> None:
    path = Path(__file__).parents[3] / "configs/tiny.yaml"
    assert load_config(path, [f"parallel.strategy={strategy}"]).parallel.strategy == strategy
    with pytest.raises(ConfigError, match=rf"parallel\.strategy: {strategy} does not go with"):
        load_config(path, [f"parallel.strategy={strategy}", other])


def test_weights_of_16_bits_are_not_trained() -> None:
    """float16 is refused by its key, but for a frozen model or an adapter's base."""
    path, frozen = Path(__file__).parents[3] / "configs/tiny.yaml", "selector.dtype=float16"
    with pytest.raises(ConfigError, match=r"selector\.dtype: .* set selector\.dtype: bfloat16"):
        load_config(path, [frozen])
    with pytest.raises(ConfigError, match=r"selector\.dtype"):
        load_config(path, [frozen, "train_selector=false"])
    assert load_config(path, [frozen, "train_selector=false", "warm_up.selector=null"])
    assert load_config(path, [frozen, "selector.adapter=lora"])
    assert load_config(path, ["selector.dtype=bfloat16"])


@pytest.mark.parametrize("setting", ["temperature=0.5", "engine=vllm", "mixture={}", "replay=1"])
@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("sft", "draws no lists"),
        ("marginal", "draws no lists"),
        ("dro-centered", "samples of the selector itself"),
        ("rloo", "samples of the selector itself"),
        ("rrpo", "samples of the selector itself"),
    ],
)
def test_settings_of_draws_are_refused_where_they_play_no_part(
    objective: str, said: str, setting: str
) -> None:
    path = Path(__file__).parents[3] / "configs/tiny.yaml"
    with pytest.raises(ConfigError, match=rf"objective: {objective} .*{said}"):
        load_config(path, [f"objective={objective}", f"e_step.{setting}"])
    assert load_config(path, ["objective=dro", f"e_step.{setting}"])


def test_the_prompts_date_is_fixed_where_none_is_given_and_survives_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SOURCE)
    today = date(2026, 3, 9)
    config = load_config(path, ["generator.prompt_date=2025-01-31", "selector.chat_arguments={effort: low}"])
    assert config.selector.prompt_date is None and config.generator.prompt_date == date(2025, 1, 31)
    fixed = with_prompt_date(config, today)
    assert fixed.selector.prompt_date == today and fixed.generator.prompt_date == date(2025, 1, 31)
    path.write_text(dump_config(fixed))
    assert load_config(path) == fixed == with_prompt_date(fixed, date(2027, 1, 1))
    with pytest.raises(ConfigError, match=r"selector\.prompt_date"):
        load_config(path, ["selector.prompt_date=tomorrow"])


@pytest.mark.parametrize("word", ["off", "no", "yes", "on", "y", "n"])
def test_words_that_an_older_yaml_takes_for_truth_are_words(word: str) -> None:
    assert parse_yaml(f"key: {word}", "x") == {"key": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("010", "010"), ("-07", "-07"), ("1:30", "1:30"), ("190:20:30", "190:20:30"), ("1:30.5", "1:30.5")),
        *(
            ("0", 0),
            ("-12", -12),
            ("1_000", 1000),
            ("0x1F", 31),
            ("0b11", 3),
            ("1e-5", 1e-5),
            ("1.5e5", 1.5e5),
        ),
        *(("-.5", -0.5), ("1.", 1.0), ("+2.5E+3", 2500.0), ("-.inf", -math.inf), ("1.2.3", "1.2.3")),
    ],
)
def test_a_number_is_what_its_digits_say(text: str, value: object) -> None:
    (read,) = parse_yaml(f"[{text}]", "x")
    assert read == value and type(read) is type(value)


def test_octal_and_sixties_are_no_numbers_of_a_config() -> None:
    path = Path(__file__).parents[3] / "configs/tiny.yaml"
    assert load_config(path, ["iterations=010"]).iterations == 10
    with pytest.raises(ConfigError, match=r"iterations: must be a whole number \(value: '1:30'\)"):
        load_config(path, ["iterations=1:30"])
    named = load_config(path, ["cache='010'"])
    again = yaml.safe_load(dump_config(named))["cache"], parse_yaml(dump_config(named), "x")["cache"]
    assert again == ("010", "010")


def test_more_threads_than_any_machine_can_start_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"threads: must be at most 1024, or null \(value: 100000\)"):
        load_config(Path(__file__).parents[3] / "configs/tiny.yaml", ["threads=100000"])


def test_off_is_a_precision_and_no_is_norwegian(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "data: {train: tiny:train, validation: tiny:validation, corpus: tiny:corpus}\n"
        "retriever: {kind: bm25, language: no}\nselector: {model: tiny:base, amp: off}\n"
        "generator: {model: tiny:base}\ntrain_generator: no\n"
    )
    config = load_config(file, [])
    assert config.selector.amp == "off" and config.train_generator is False
    assert config.retriever.model_dump()["language"] == "no"
    assert load_config(file, ["selector.amp=off", "train_selector=off"]).train_selector is False
