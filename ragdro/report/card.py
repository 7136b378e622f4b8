"""The model card of an exported model: what it is, its prompt, its metrics, data and config.

In: a finished run, a role and a stage. Out: Markdown behind a YAML header, as the Hugging Face hub reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ragdro.config import Config
from ragdro.environment import made_with
from ragdro.evaluation.evaluate import METRICS
from ragdro.evaluation.significance import bootstrap_interval
from ragdro.prompts import load_template
from ragdro.report.predictions import read_records
from ragdro.runs.models import settings_of
from ragdro.runs.status import ENVIRONMENT, read_json, read_results
from ragdro.types import ENOUGH, Role
from ragdro.units import counted, number

_OF_THE_MACHINE = {"runs", "cache", "device", "threads", "report_to"}
_WHAT = {
    "selector": "It reads a question and its candidate passages, each with a numerical identifier, and writes"
    " an ordered list of the identifiers to read, such as `[3] > [1]`. p(list) is a product over the places"
    " of the list, at each of which only identifiers that exist and are not used yet compete: decode it"
    " under that constraint.",
    "generator": "It reads a question and the passages that the selector chose, in that order, and writes the"
    " answer. Decode it greedily.",
    "rewriter": "It reads a question and the passages that were read for it, and writes the next search"
    f" query, or `{ENOUGH}`, which says that they are enough. Decode it greedily.",
}

_CODE = """\
import ragdro

rag = ragdro.load({folder!r})
passages = ["The director signs the contract", "The office opens at nine"]
found = rag.answer("Who signs the contract?", passages)
print(found.answer, [passage.text for passage in found.selected])
"""
_CODE_OF_ROUNDS = """\
import ragdro

rag = ragdro.load({folder!r}, corpus="corpus.jsonl")
found = rag.answer("Who signs the contract?")
print(found.answer, [one.query for one in found.selection.path.rounds])
"""


def model_card(run: Path, config: Config, role: Role, stage: str, folder: str) -> str:
    """The card of `role` after `stage` ('iteration-N'; 0: the warm-up); both models are written into
    `folder` (its name).

    Raises `DataError` where the run has not finished or its predictions are damaged.
    """
    read_results(run)
    kept = {k: v for k, v in config.model_dump(mode="json").items() if k not in _OF_THE_MACHINE}
    environment = read_json(run / ENVIRONMENT)
    template = load_template(settings_of(config, role).prompt)
    prompt = {"user": template.user, "passage": template.passage, "start": template.start}
    if template.read is not None:
        prompt["read"] = template.read
    code = _CODE if config.rewriter is None else _CODE_OF_ROUNDS
    after = "the warm-up" if stage == "iteration-0" else stage.replace("-", " ")
    data = {key: value for key, value in config.data.model_dump().items() if value is not None}
    return "\n".join(
        [
            f"---\n{_yaml(_header(config, role))}---\n",
            f"# {config.name}: {role}\n",
            f"The {role} of a retrieval-augmented system whose selector and generator were trained together"
            " by Direct Retrieval-augmented Optimization"
            f" ([arXiv 2505.03075](https://arxiv.org/abs/2505.03075)) with ragdro. {_WHAT[role]}\n",
            f"## Use\n\nThe models with their prompts and settings are the folder `{folder}`:\n",
            f"```python\n{code.format(folder=folder)}```\n",
            "## Prompt\n\nA tokenizer with a chat template gets `user` as one user turn; another gets it as"
            " it stands, with `start` between it and the output.\n",
            f"```yaml\n{_yaml(prompt)}```\n",
            f"## Metrics\n\nOf the pair after {after}. In brackets the 95 % interval (bootstrap over the"
            " questions).\n",
            *_table(run, stage),
            f"\n## Data\n\n```yaml\n{_yaml(data)}```\n",
            f"## Config\n\n```yaml\n{_yaml(kept)}```\n",
            f"Made with {', resumed by '.join(made_with(environment))}; seed {environment['seed']}.",
            "",
        ]
    )


def _header(config: Config, role: Role) -> dict[str, Any]:
    header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    model = settings_of(config, role).model
    if model is not None and ":" not in model and not Path(model).exists():
        header["base_model"] = model
    sources = {s.split(":")[1] for s in (config.data.train, config.data.validation) if s.startswith("hf:")}
    if sources:
        header["datasets"] = sorted(sources)
    return {**header, "tags": ["ragdro", "retrieval-augmented-generation", f"rag-{role}"]}


def _table(run: Path, stage: str) -> list[str]:
    """A row a metric: vanilla RAG against the pair, counts where a metric is a yes or no."""
    after = "warm_up" if stage == "iteration-0" else stage
    records = [read_records(run, name) for name in ("vanilla_rag", after)]
    rows = [f"| {counted(len(records[1]))} | retriever's order, warmed-up generator | this pair |"]
    rows.append("|---|---|---|")
    rows += [f"| {name} | {_metric(records[0], name)} | {_metric(records[1], name)} |" for name in METRICS]
    return rows


def _metric(records: list[Any], name: str) -> str:
    values = [float(r[name]) for r in records if r[name] is not None]
    if not values:
        return "–"
    mean, low, high = bootstrap_interval(values, np.random.default_rng(0))
    count = f"{round(sum(values))} of {len(values)}, " if set(values) <= {0.0, 1.0} else ""
    return f"{number(mean)} ({count}{number(low)} to {number(high)})"


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
