"""Which stages of a run are served, what is in memory for them, and what else of the folder the page shows.

In: a run folder or an exported one. Out: a system a stage. The warm-up and vanilla RAG, which reads the
retriever's first K with the warm-up's generator, are one pair of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ragdro.runs.load import load, over_corpus
from ragdro.runs.searching import retriever_of
from ragdro.runs.stages import VANILLA, WARM_UP, checkpoint_of, config_of
from ragdro.runs.status import RESULTS
from ragdro.runs.taught import searched_at
from ragdro.system import Rag
from ragdro.units import as_bytes, counted

COMPARED = (VANILLA, WARM_UP, "best")
"""What stands side by side, in this order."""


@dataclass(frozen=True, slots=True)
class Served:
    """What there is beside the system that answers where nothing else is asked for, which is of `stage`:
    `others`, by stage; whether questions can be searched for (`searches`); the `run` whose examples are shown
    (None: it has none)."""

    stage: str = "best"
    others: Mapping[str, Rag] = field(default_factory=dict)
    searches: bool = True
    run: Path | None = None


def open_stages(
    folder: Path,
    *,
    stage: str = "best",
    corpus: str | None = None,
    compare: bool = False,
    passage_attention: str | None = None,
    passage_memory: float | None = None,
) -> tuple[Rag, Served]:
    """The system of `stage`, and with `compare` those of vanilla RAG, the warm-up and the best iteration.
    `passage_attention`, `passage_memory`: as of `load`; the memory is that of all together.

    An index is opened where there is one: what cannot be loaded or searched is said now, not at a request.
    Raises a `RagdroError` for it.
    """
    own = searched_at(config_of(folder), folder, checkpoint_of(folder, stage))
    config = own if corpus is None else over_corpus(own, corpus)
    searches = config.retriever.kind != "given"
    names = [stage, *(name for name in COMPARED if compare and name != stage)]
    checkpoints = {name: checkpoint_of(folder, name) for name in names}
    retriever = retriever_of(config) if searches else None
    pairs: dict[Path, Rag] = {}
    stages: dict[str, Rag] = {}
    for name, checkpoint in checkpoints.items():
        if checkpoint not in pairs:
            pairs[checkpoint] = load(
                folder,
                stage=WARM_UP if name == VANILLA else name,
                retriever=retriever,
                passage_attention=passage_attention,
                passage_memory=passage_memory,
            )
            first, new = next(iter(pairs.values())).generator.model, pairs[checkpoint].generator.model
            new.passage_states = first.passage_states
        pair = pairs[checkpoint]
        selects = pair.selects and name != VANILLA
        stages[name] = Rag(
            pair.selector,
            pair.generator,
            pair.retrieve,
            pair.max_tokens,
            selects=selects,
            answering=pair.answering,
            asking=pair.asking,
        )
    run = folder if (folder / RESULTS).is_file() else None
    rag = stages.pop(stage)
    return rag, Served(stage, stages, searches, run)


def loaded(rag: Rag, served: Served) -> str:
    """One line: the stages, and how large their models are in memory."""
    rags = [rag, *served.others.values()]
    parts = (part for r in rags for part in (r.selector, r.generator, r.asking and r.asking.rewriter) if part)
    models = {id(part.model.hf): part.model.hf for part in parts}
    size = as_bytes(sum(model.get_memory_footprint() for model in models.values()))
    return f"{', '.join([served.stage, *served.others])}: {counted(len(models), 'models')}, {size}"
