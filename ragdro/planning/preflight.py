"""Everything that can be known of a run before it: `ragdro train CONFIG --dry-run`.

In: a `Config`. Out: `Finding`s, problems first. Data files are read, candidates are looked at where they are
cached or cheap to search (the run finds them in the cache), models are known by their configs and tokenizers
alone. What cannot be used is a problem here where the run would raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ragdro.access import refused
from ragdro.config import Config
from ragdro.config.retriever import ExternalSettings
from ragdro.data import read_corpus, read_questions, recognise
from ragdro.errors import RagdroError
from ragdro.lm.load import pick_device
from ragdro.planning import findings, machine, roles
from ragdro.planning.findings import LEVELS, Finding
from ragdro.planning.plan import plan
from ragdro.planning.server import check_server
from ragdro.retrieval import make_retriever
from ragdro.retrieval.cache import has_candidates
from ragdro.retrieval.database import DatabaseRetriever
from ragdro.runs.setup import load_tasks
from ragdro.runs.trackers import require_trackers
from ragdro.runs.warm_start import warm_start
from ragdro.sources import resolve
from ragdro.types import Candidates, Question, Task
from ragdro.units import counted

_PASSAGES = 1_000
"""Passages of a corpus that are read to see whether it can be."""
_SMALL = 64 * 2**20
"""Bytes of a corpus that is indexed with BM25 in passing."""
_SERVICES = ("json", "elasticsearch")
_DATABASES = ("postgres", "qdrant")


def preflight(config: Config) -> list[Finding]:
    """What is wrong with a run, and what is worth knowing of it; problems first."""
    results: list[Finding] = []
    _attempt(results, "report_to", lambda: require_trackers(config.report_to))
    _attempt(results, "device", lambda: results.append(machine.check_device(config)))
    _attempt(results, "warm_up.from", lambda: results.extend(_look_at_start(config)))
    splits = _read_splits(config, results)
    passages = _attempt(results, "data.corpus", lambda: _read_corpus(config, results))
    if config.retriever.kind in _DATABASES:
        passages = _attempt(results, "retriever", lambda: _read_store(config, results))
    is_read = passages is not None and len(splits) == len(_sources(config))
    tasks = _look_at_candidates(config, splits, results) if is_read else []
    tasks = tasks or _stand_ins(splits, passages or [], config.top_n)
    _check_roles(config, tasks, results)
    _check_sizes(_with_candidates_of(config, tasks), splits, results)
    return sorted(results, key=lambda finding: LEVELS.index(finding.level))


def _attempt(results: list[Finding], check: str, work: Callable[[], Any]) -> Any:
    """What `work` returns; what a run would raise is a problem, and None."""
    try:
        return work()
    except RagdroError as error:
        results.append(Finding(check, "problem", str(error)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        results.append(Finding(check, "problem", f"{where}{refused(error)}"))
    return None


def _look_at_start(config: Config) -> list[Finding]:
    """The pair of another run, where the run starts from one."""
    start = warm_start(config)
    if start is None:
        return []
    return [Finding("warm_up.from", "ok", f"the pair of {start.run} ({start.stage}); no warm-up")]


def _sources(config: Config) -> dict[str, str]:
    named = {"train": config.data.train, "validation": config.data.validation, "test": config.data.test}
    return {split: source for split, source in named.items() if source is not None}


def _limit(config: Config, split: str) -> int | None:
    """How many questions of a split a run takes."""
    return config.data.train_questions if split == "train" else config.evaluation.questions


def _read_splits(config: Config, results: list[Finding]) -> dict[str, list[Question]]:
    """The questions that a run takes, of each split that can be read."""
    splits = {}
    for split, source in _sources(config).items():

        def read(source: str = source) -> list[Question]:
            reading = read_questions(resolve(source), skip_bad=config.data.skip_bad, fields=config.data.names)
            return list(reading)

        questions = _attempt(results, f"data.{split}", read)
        if questions is not None:
            splits[split] = questions[: _limit(config, split)]
            results.append(findings.check_answers(f"data.{split}", questions))
    if len(splits) > 1:
        results.append(findings.check_overlap(splits))
    return splits


def _read_corpus(config: Config, results: list[Finding]) -> list[Any]:
    if config.data.corpus is None:
        return []
    source, names = resolve(config.data.corpus), config.data.names
    passages = list(islice(read_corpus(source, fields=names), _PASSAGES))
    form = recognise(source, names)
    results.append(
        Finding("data.corpus", "ok", f"{form}: the first {counted(len(passages), 'passages')} can be read")
    )
    return passages


def _read_store(config: Config, results: list[Finding]) -> list[Any]:
    """The first passages of the retriever's database. Raises `RetrievalError` for one that cannot be
    searched."""
    retriever = make_retriever(config.retriever)
    assert isinstance(retriever, DatabaseRetriever)
    count = retriever.check()
    passages = list(islice(retriever.passages(), _PASSAGES))
    results.append(Finding("passages", "ok", f"{retriever.place}: {counted(count, 'passages')}"))
    return passages


def _look_at_candidates(
    config: Config, splits: Mapping[str, Sequence[Question]], results: list[Finding]
) -> list[Task]:
    """The tasks of all splits where they are cheap to have, and what is to be said of them."""
    if any(not q.answers for questions in splits.values() for q in questions):
        results.append(Finding("candidates", "note", "not looked at, for questions without answers"))
        return []
    if not _attempt(results, "retriever", lambda: _is_cheap(config, splits)):
        if all(finding.check != "retriever" for finding in results):
            text = "not looked at: a search would take long (ragdro retrieve, or the run, caches it)"
            results.append(Finding("candidates", "note", text))
        return []

    def load() -> list[Task]:
        tasks: list[Task] = []
        for split, source in _sources(config).items():
            tasks += load_tasks(config, source)[: _limit(config, split)]
        return tasks

    tasks: list[Task] = _attempt(results, "candidates", load) or []
    if tasks:
        results += [findings.check_number(tasks, config.top_n), findings.check_matches(tasks)]
        results.append(findings.check_recall(tasks, 1 + config.retrieval.queries))
    return tasks


def _is_cheap(config: Config, splits: Mapping[str, Sequence[Question]]) -> bool:
    """Whether candidates are cached already, listed, or searched for in a small corpus with BM25."""
    settings, questions = config.retriever, [q for split in splits.values() for q in split]
    if isinstance(settings, ExternalSettings) and settings.source.type in _SERVICES:
        return False
    if settings.kind not in ("bm25", "external", "given"):
        return all(_is_cached(config, source) for source in _sources(config).values())
    if not make_retriever(settings).needs_corpus(questions) or config.data.corpus is None:
        return True
    path = Path(resolve(config.data.corpus))
    small = path.is_file() and path.stat().st_size <= _SMALL
    return small or all(_is_cached(config, source) for source in _sources(config).values())


def _is_cached(config: Config, source: str) -> bool:
    names = config.data.names
    questions = list(read_questions(resolve(source), skip_bad=config.data.skip_bad, fields=names))
    corpus = None if config.data.corpus is None else resolve(config.data.corpus)
    cache = Path(config.cache)
    return has_candidates(questions, corpus, config.retriever, config.top_n, cache, fields=names)


def _stand_ins(splits: Mapping[str, Sequence[Question]], passages: Sequence[Any], top_n: int) -> list[Task]:
    """Tasks for the prompts where the candidates were not looked at: each question with passages of the
    corpus, or with its own."""
    tasks = []
    for question in findings.sample([q for questions in splits.values() for q in questions]):
        own = question.passages[:top_n] or tuple(passages[:top_n])
        if own:
            tasks.append(Task(question, Candidates(question.id, own)))
    return tasks


def _with_candidates_of(config: Config, tasks: Sequence[Task]) -> Config:
    """The config with the most candidates that a question has, where none has N."""
    most = max((len(task.candidates.passages) for task in tasks), default=config.top_n)
    fewest = max(config.selector.k, *config.retrieval.selected(config.selector.k))
    return config.model_copy(update={"top_n": min(config.top_n, max(most, fewest))})


def _check_roles(config: Config, tasks: Sequence[Task], results: list[Finding]) -> None:
    for role in config.roles:
        checked = _attempt(results, role, partial(roles.check_model, config, role))
        if checked is None:
            continue
        finding, tokenizer = checked
        results.append(finding)
        if tokenizer is None or not tasks:
            if finding.level != "problem":
                why = "there are no passages to put in" if tokenizer else "its tokenizer is made by the run"
                results.append(Finding(f"{role}: prompt", "note", f"not looked at: {why}"))
        else:
            look = partial(roles.check_prompt, config, role, tokenizer, tasks)
            results += _attempt(results, f"{role}: prompt", look) or []


def _check_sizes(config: Config, splits: Mapping[str, Sequence[Question]], results: list[Finding]) -> None:
    """Memory, disk and time, by the plan of an iteration; nothing where a model is unknown."""
    if any(finding.level == "problem" and finding.check in config.roles for finding in results):
        return
    questions = config.e_step.questions or len(splits.get("train", ()))
    if not questions:
        return

    def sizes() -> None:
        device = pick_device(config.device)
        planned = plan(config, questions, device)
        weights: dict[str, int] = {role: roles.parameter_bytes(config, role) for role in config.roles}
        results.append(machine.check_memory(planned, machine.memory_of(device)))
        server = check_server(config, device)
        if server is not None:
            results.append(server)
        folder = Path(config.runs) / config.name
        results.append(machine.check_disk(folder, machine.bytes_to_write(config, planned, weights)))
        if machine.is_there(device):
            results.append(machine.check_time(config, planned, device))

    _attempt(results, "plan", sizes)
