"""The two models of a run: each its own, or two adapters on one base.

In: a `Config` and, for a trained pair, the folder of its checkpoint. Out: the selector's and the generator's
`LanguageModel`. A role with an adapter is its base as the config names it with the adapter that the
checkpoint holds; a role without one is the checkpoint itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ragdro.config import Config, RoleSettings
from ragdro.data import read_corpus
from ragdro.errors import DataError, ModelError
from ragdro.lm.adapters import merged, with_adapter
from ragdro.lm.heads import HeadWeights
from ragdro.lm.load import load_language_model, pick_device
from ragdro.lm.model import LanguageModel
from ragdro.lm.projections import PROJECTIONS_FILE, Projections, saved_projections
from ragdro.lm.quantised import bitsandbytes
from ragdro.lm.scratch import scratch_model
from ragdro.parallel.loading import loading_in_parts
from ragdro.sources import resolve
from ragdro.types import Role

ROLES: tuple[Role, Role] = ("selector", "generator")
"""The pair: every run has these."""


def load_pair(config: Config, checkpoint: Path | None = None) -> tuple[LanguageModel, LanguageModel]:
    """The selector's and the generator's model: new ones, or those in `checkpoint`.

    Raises `ModelError` for what cannot be loaded, `ConfigError` for a library that is not installed.
    """
    selector = _pointing(config, _load(config, "selector", checkpoint), checkpoint)
    shared = selector if config.shared_backbone else None
    return selector, _load(config, "generator", checkpoint, shared)


def load_rewriter(config: Config, checkpoint: Path | None, selector: LanguageModel) -> LanguageModel:
    """The rewriter's model, of a config that has one: its own, or an adapter on the `selector`'s base. Raises
    as `load_pair` does."""
    return _load(config, "rewriter", checkpoint, selector if config.shared_backbone else None)


def whole_model(config: Config, role: Role, checkpoint: Path) -> LanguageModel:
    """The role's trained model as one of plain weights, on the CPU: an adapter is merged into its base.

    A base that was quantised for training is taken as it was before. Raises as `load_pair` does.
    """
    settings, saved, cpu = settings_of(config, role), checkpoint / role, torch.device("cpu")
    if settings.adapter is None:
        model = load_language_model(str(saved), settings, cpu)
    else:
        plain = settings.model_copy(update={"quantisation": None})
        base = load_language_model(base_of(config, role), plain, cpu)
        model = LanguageModel(merged(base.hf, saved), base.tokenizer)
    return _pointing(config, model, checkpoint) if role == "selector" else model


def settings_of(config: Config, role: Role) -> RoleSettings:
    """The role's section of the config."""
    return config.roles[role]


def trained_part(config: Config, role: Role) -> str:
    """What of the role's model training changes, in words."""
    if not getattr(config, f"train_{role}"):
        return "warmed up only"
    if role == "selector" and config.selector.kind == "pointer" and config.selector.pointer.frozen:
        return "its pointer's weights alone"
    adapter = settings_of(config, role).adapter
    return "all weights" if adapter is None else f"a {adapter.kind} adapter"


def _pointing(config: Config, model: LanguageModel, checkpoint: Path | None) -> LanguageModel:
    """The selector's model with the projections of a pointer: those in the checkpoint or beside the model,
    else new ones. Raises `ModelError` for a checkpoint without them, and for a model with them that is to
    write."""
    settings = config.selector
    source = settings.model if checkpoint is None else str(checkpoint / "selector")
    saved = None
    if source is not None:
        saved = saved_projections(source, model.width, model.heads, settings.revision)
    if settings.kind != "pointer":
        if saved is not None:
            raise ModelError(f"{source}: is a pointer's model; set selector.kind: pointer")
        return model
    if saved is None and checkpoint is not None:
        raise ModelError(f"{source}: has no {PROJECTIONS_FILE}, which selector.kind: pointer needs")
    pointer = settings.pointer
    if saved is not None and isinstance(saved, HeadWeights) != (pointer.score == "attention"):
        other = "states" if pointer.score == "attention" else "attention"
        raise ModelError(f"{source}: scores passages by {other}; set selector.pointer.score: {other}")
    made: Projections | HeadWeights = saved or (
        HeadWeights(model.heads)
        if pointer.score == "attention"
        else Projections(model.width, pointer.width, pointer.scale, config.seed)
    )
    model.projections = made.to(model.device)
    if pointer.frozen:
        model.freeze()
    return model


def _load(
    config: Config, role: Role, checkpoint: Path | None, base: LanguageModel | None = None
) -> LanguageModel:
    """`base`: what this role's adapter is to share; None: its own."""
    settings = settings_of(config, role)
    saved = None if checkpoint is None else checkpoint / role
    device = pick_device(config.device)
    if settings.adapter is None:
        source = str(saved or base_of(config, role))
        in_parts = loading_in_parts(config.parallel)
        return load_language_model(source, settings, device, trained=config.trains(role), in_parts=in_parts)
    if settings.quantisation is not None:
        bitsandbytes(f"{role}.quantisation: {settings.quantisation}")
    base = base or load_language_model(base_of(config, role), settings, device)
    return with_adapter(base, role, settings.adapter, seed=config.seed, saved=saved)


def base_of(config: Config, role: Role) -> str:
    """The folder or name to load; a model from scratch is made once and kept in the cache."""
    settings = settings_of(config, role)
    if settings.model is not None:
        return settings.model
    assert settings.scratch is not None
    return str(scratch_model(settings.scratch, _texts(config), Path(config.cache), config.seed))


def _texts(config: Config) -> Iterator[str]:
    """What a tokenizer is trained on: the corpus, or the questions' own passages."""
    if config.data.corpus is None:
        raise DataError("a model from scratch needs data.corpus, to train its tokenizer on")
    for passage in read_corpus(resolve(config.data.corpus), fields=config.data.names):
        yield passage.title
        yield passage.text
