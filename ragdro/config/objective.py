"""What is maximised: the settings that every objective has, and how a name becomes one.

Written `objective: dro` or, with settings of its own, `objective: {kind: dro-tempered, floor: 3}`. A kind is
a file of `ragdro.algorithms` (`dro-tempered`: `dro_tempered.py`) or, for one's own,
`package.module:ClassName`. docs/reference/objectives.md says what each is for. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field, SerializeAsAny

from ragdro.config.base import Settings
from ragdro.config.plugins import is_import_path, load_class, misplaced, nested, packaged_modules
from ragdro.config.training import EStep
from ragdro.errors import ConfigError

_PACKAGE = "ragdro.algorithms"
_NOT_OBJECTIVES = {"base", "estimates", "examples", "losses", "rewards", "warnings", "weights"}


class ObjectiveSettings(Settings):
    """What is known of an objective before anything is loaded."""

    kind: str
    samples: int | None = Field(
        None,
        ge=1,
        exclude=True,
        description="permutations drawn for each question (m); in a config e_step.samples",
    )

    on_policy: ClassVar[bool] = False
    """Whether samples must come from the selector as it is: no temperature, mixture, replay or other
    engine."""
    learns_paths: ClassVar[bool] = False
    """Whether it has something for the rewriter to learn, where a question is asked more than once."""
    learns_thoughts: ClassVar[bool] = False
    """Whether the generator learns what it thought, where a thought comes before the answer."""
    draws_lists: ClassVar[bool] = True
    """Whether lists are sampled from the selector at all."""
    selects: ClassVar[bool] = True
    """False: nothing is ever selected, the retriever's first K are read."""

    @property
    def needs_reference(self) -> bool:
        """Whether the warmed-up selector is kept beside the one in training."""
        return False

    def check(self, samples: int) -> None:
        """Raises `ValueError` where the objective cannot learn from `samples` lists a question."""


def check_proposals(objective: ObjectiveSettings, step: EStep) -> None:
    """Raises `ValueError` where an objective cannot learn from what the E-step proposes: advantages have mean
    zero under the selector alone, and nothing corrects them elsewhere."""
    own = step.engine.kind == "transformers" and step.temperature == 1
    elsewhere = not own or step.mixture is not None or step.replay > 0
    if elsewhere and not objective.draws_lists:
        raise ValueError(
            f"objective: {objective.kind} draws no lists: no e_step.temperature, e_step.engine,"
            " e_step.mixture or e_step.replay"
        )
    if elsewhere and objective.on_policy:
        raise ValueError(
            f"objective: {objective.kind} takes samples of the selector itself: e_step.temperature"
            " 1, e_step.engine transformers, no e_step.mixture and no e_step.replay"
        )
    objective.check(step.samples)


def objective_kinds() -> list[str]:
    """The packaged kinds."""
    return [name.replace("_", "-") for name in packaged_modules(_PACKAGE) if name not in _NOT_OBJECTIVES]


def objective_keys() -> list[str]:
    """Every key that some packaged objective has."""
    return sorted({key for objective in objective_classes() for key in objective.model_fields} - {"samples"})


def objective_classes() -> list[type[ObjectiveSettings]]:
    """The classes of the packaged kinds."""
    return list(map(_class_of, objective_kinds()))


def resolve_objective(value: Any) -> Any:
    """The objective that a name, a mapping with `kind` (default: dro) or an instance stands for."""
    if isinstance(value, ObjectiveSettings):
        return value
    values = {"kind": value} if isinstance(value, str) else value
    if not isinstance(values, Mapping):
        raise ValueError(f"must be {_written()}")
    kind = values.get("kind", "dro")
    if not isinstance(kind, str) or not (is_import_path(kind) or kind in objective_kinds()):
        raise ValueError(f"must be {_written()}")
    if values.get("samples") is not None:
        raise misplaced("samples", "in a config this is e_step.samples", values["samples"])
    with nested():
        return _class_of(kind).model_validate({**values, "kind": kind})


def _class_of(kind: str) -> type[ObjectiveSettings]:
    if is_import_path(kind):
        loaded = load_class(kind, "objective.kind")
        if not issubclass(loaded, ObjectiveSettings):
            raise ConfigError(f"objective.kind: {kind} is no subclass of ragdro.algorithms.Algorithm")
        missing = sorted(getattr(loaded, "__abstractmethods__", ()))
        if missing:
            raise ConfigError(f"objective.kind: {kind} has no {', '.join(missing)}")
        return loaded
    name = kind.replace("-", "_")
    return load_class(f"{_PACKAGE}.{name}:{name.title().replace('_', '')}", "objective.kind")


def _written() -> str:
    *others, last = objective_kinds()
    return f"{', '.join(others)} or {last}, or package.module:ClassName"


Objective: TypeAlias = Annotated[SerializeAsAny[ObjectiveSettings], BeforeValidator(resolve_objective)]
"""Settings of any objective, or its name alone; a mapping without `kind` means the paper's."""
