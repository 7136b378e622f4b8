"""Every setting with its meaning, type, default and range, read from the fields that define them. No torch.

In: nothing but the settings' classes. Out: sections of settings. A value of several kinds (`retriever`,
`objective`, `e_step.engine`) has a section for each, named `retriever.dense`; in a config its keys are
written without the kind (`retriever.model`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ragdro.config.annotations import classes_in, either, limits, type_name
from ragdro.config.base import fields_by_key, value_of
from ragdro.config.objective import ObjectiveSettings, objective_classes
from ragdro.errors import ConfigError

REQUIRED = "required"
_KIND_KEYS = ("kind", "type")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key. `name` is its last part, `default` as YAML writes it ('required' where there is none, empty
    for a section), `limits` such as '>= 1', empty for none."""

    name: str
    type: str
    default: str
    limits: str
    description: str


@dataclass(frozen=True, slots=True)
class Section:
    """The keys of one class. `places`: the dotted names that it stands at (`m_step.selector`,
    `m_step.generator`), kinds included; `written`: the same as a config writes them, without the kinds."""

    places: tuple[str, ...]
    written: tuple[str, ...]
    about: str
    settings: tuple[Setting, ...]

    @property
    def name(self) -> str:
        """The first of its names; empty for the top."""
        return self.places[0]


def sections() -> list[Section]:
    """All of them, the top first; one that stands at several places is there once."""
    from ragdro.config import Config

    listed: list[Section] = []
    for section in _sections(Config, "", "", None):
        same = next((i for i, other in enumerate(listed) if _content(other) == _content(section)), None)
        if same is None or not section.name:
            listed.append(section)
        else:
            old = listed[same]
            places, written = (*old.places, *section.places), (*old.written, *section.written)
            listed[same] = replace(old, places=places, written=written)
    return listed


def look_up(key: str) -> list[Section]:
    """The section `key` with those below it, or the one setting `key` (of each kind that has it).

    Raises `ConfigError` with the nearest key where there is no such one.
    """
    everything = sections()
    below = [_at(s, [p == key or p.startswith(f"{key}.") for p in s.places]) for s in everything]
    alone = [
        replace(_at(s, [key in _names(p, w, setting) for p, w in _both(s)]), settings=(setting,))
        for s in everything
        for setting in s.settings
    ]
    for listed in ([s for s in ways if s.places] for ways in (below, alone)):
        if listed:
            return listed
    named = {n for s in everything for p, w in _both(s) for one in s.settings for n in _names(p, w, one)}
    known = sorted(named | _places(everything))
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    near = near or [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    raise ConfigError(
        f"no setting '{key}'" + (f"; did you mean '{near[0]}'?" if near else "; see ragdro config")
    )


def _places(everything: list[Section]) -> set[str]:
    return {place for section in everything for place in section.places if place}


def _both(section: Section) -> Iterator[tuple[str, str]]:
    return zip(section.places, section.written, strict=True)


def _at(section: Section, meant: Sequence[bool]) -> Section:
    """The section at those of its places alone that are `meant`."""
    both = [names for names, is_meant in zip(_both(section), meant, strict=True) if is_meant]
    return replace(section, places=tuple(p for p, _ in both), written=tuple(w for _, w in both))


def _names(place: str, written: str, setting: Setting) -> set[str]:
    """What a setting may be asked for by: with its kind, and as a config writes it."""
    return {_joined(place, setting.name), _joined(written, setting.name)}


def _content(section: Section) -> tuple[object, ...]:
    return section.about, section.settings


def _sections(
    model: type[BaseModel], place: str, written: str, values: BaseModel | None
) -> Iterator[Section]:
    """The section of a class and those below it; `values` has the defaults that this place gives it."""
    fields = {name: field for name, field in fields_by_key(model).items() if not _is_hidden(name, field)}
    yield Section(
        (place,),
        (written,),
        _about(model),
        tuple(_setting(name, field, _default(field, values, name)) for name, field in fields.items()),
    )
    for name, field in fields.items():
        kinds = _kinds(field)
        for kind, one in kinds:
            default = _default(field, values, name)
            inner = _joined(place, name, kind) if len(kinds) > 1 else _joined(place, name)
            given = default if type(default) is one else None
            yield from _sections(one, inner, _joined(written, name), given)


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _is_hidden(name: str, field: FieldInfo) -> bool:
    """What names a kind, and what no config has."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return bool(field.exclude) or (name in _KIND_KEYS and not field.is_required() and len(kinds) < 2)


def _kinds(field: FieldInfo) -> list[tuple[str, type[BaseModel]]]:
    """The classes that a field's value may be of, each with its kind."""
    classes = classes_in(field.annotation)
    if classes == [ObjectiveSettings]:
        classes = list(objective_classes())
    return [(_kind_of(one), one) for one in classes]


def _kind_of(model: type[BaseModel]) -> str:
    named = (model.model_fields[key] for key in _KIND_KEYS if key in model.model_fields)
    return next((str(field.default) for field in named if not field.is_required()), "custom")


def _setting(name: str, field: FieldInfo, default: Any) -> Setting:
    kinds = [kind for kind, _ in _kinds(field)]
    kind = type_name(field.annotation)
    if kinds:
        null = " or null" if kind.endswith("null") else ""
        kind = ("a section" if len(kinds) == 1 else f"a section of kind {either(kinds)}") + null
    return Setting(name, kind, _as_yaml(field, default, bool(kinds)), limits(field), field.description or "")


def _default(field: FieldInfo, values: BaseModel | None, name: str) -> Any:
    if values is not None:
        return value_of(values, name)
    return None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})


def _as_yaml(field: FieldInfo, default: Any, is_section: bool) -> str:
    if field.is_required():
        return REQUIRED
    if isinstance(default, BaseModel):
        kinds = len(_kinds(field)) > 1
        return _kind_of(type(default)) if kinds else ""
    if is_section and default is not None:
        return str(default)
    plain = default if default is None or isinstance(default, (str, int, float, list, dict)) else str(default)
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def _about(model: type[BaseModel]) -> str:
    """The first paragraph of the class's docstring, in one line."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())
