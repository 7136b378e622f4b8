"""What the run that `warm_up.from` names has measured of the pair which another starts from.

In: a config, its questions, and where its pair comes from. Out: that run's records of vanilla RAG and of the
warm-up, where measuring them again would say the same: the same questions, candidates, passages, settings and
code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ragdro.algorithms.base import algorithm_of
from ragdro.config import Config
from ragdro.config.resume import first_difference, located
from ragdro.environment import is_of_this_code
from ragdro.runs.fingerprint import fingerprint_of
from ragdro.runs.log import METRICS
from ragdro.runs.stages import WARM_UP
from ragdro.runs.status import ENVIRONMENT, began_with, last_state, read_json
from ragdro.runs.warm_start import WarmStart
from ragdro.training.loop import VANILLA, stage_name
from ragdro.training.parts import Records
from ragdro.types import Task

_BEHIND = (
    *("seed", "warm_up.*", "train_*", "cross_fitted", "e_step.*", "m_step.*", "objective.*"),
    *("data.train*", "evaluation.every", "evaluation.test", "evaluation.metric"),
    *("evaluation.samples", "evaluation.tight_*"),
)
"""Keys that say what is done with the pair, or what is drawn from it: nothing of its greedy answers."""
REPORTED = "reported_sha256"
"""Where a run's log has the fingerprint of the questions that it reports on."""
_COMPARED = ("selector.model", "selector.prompt", "generator.model", "generator.prompt")
"""Keys whose values may be paths: `warm_start` has compared what these lead to."""


def measured_before(
    config: Config, start: WarmStart | None, reported: Sequence[Task]
) -> Mapping[str, Records]:
    """By stage a record for each of the `reported` questions; without the stages that must be measured.

    A system that asks more than once is measured anew: what its queries find is in no record.
    """
    if start is None or start.stage != WARM_UP or config.rewriter is not None:
        return {}
    if last_state(start.run) is None:  # not so far, or of another version
        return {}
    noted = start.run / ENVIRONMENT
    if not noted.is_file() or not is_of_this_code(read_json(noted)):
        return {}
    began = began_with(start.run)
    before, now = algorithm_of(began), algorithm_of(config)
    if (before.selects, before.independent) != (now.selects, now.independent):
        return {}
    if first_difference(began, located(config), *_BEHIND, *_COMPARED) is not None:
        return {}
    if _reported_by(start) != fingerprint_of(reported):
        return {}
    by_stage = {stage: _records(start, stage, reported) for stage in (VANILLA, stage_name(0))}
    return {stage: records for stage, records in by_stage.items() if records is not None}


def _reported_by(start: WarmStart) -> str | None:
    """The fingerprint of the questions that the run reported on, as its log begins."""
    with suppress(OSError, ValueError, KeyError, TypeError), (start.run / METRICS).open("rb") as file:
        noted: str = json.loads(next(file, b""))[REPORTED]
        return noted
    return None


def _records(start: WarmStart, stage: str, reported: Sequence[Task]) -> Records | None:
    """The run's predictions of a stage; None where they are not there whole."""
    path = start.run / f"predictions-{stage}.jsonl"
    with suppress(OSError, ValueError, KeyError, TypeError):
        records = [json.loads(line) for line in path.read_bytes().splitlines()]
        if [record["id"] for record in records] == [task.question.id for task in reported]:
            return records
    return None
