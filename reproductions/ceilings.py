"""What a second retrieval could find on real data: BM25's recall with oracle queries, before any training.

    python reproductions/ceilings.py DATA OUT [--sets hotpotqa 2wiki musique] [--budgets 10 20]

At equal numbers of different passages N: *one* reads BM25's top N for the question. The others read its top
N/2 and spend the rest on further queries, which share it evenly:
- *read*: one query, the question with the title of the gold passage that was found first (where none was
  found, of the data's first);
- *copied*: of the queries of *missing*, those whose title (without what stands in brackets) can be copied out
  of the text of a gold passage that was found;
- *missing*: the title of each gold passage that the first N/2 lack. No rewriter can know these: the ceiling;
- *teacher*: the follow-up queries of the data, for those questions whose original file has them.
Where there is nothing to ask, the question's list goes on. DATA holds `multihop/`, `more/`, `original/` and
`corpora/`; the corpus of a set is that of `corpora/` and `more/` together, its questions are all that have
gold passages (nothing is trained). OUT keeps corpora and lists. Intervals are 95 % bootstrap intervals over
the questions; differences are paired.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ragdro.config.retriever import Bm25Settings
from ragdro.data import read_corpus, read_questions
from ragdro.errors import RagdroError
from ragdro.evaluation.ranking import full_recall
from ragdro.evaluation.significance import Interval, bootstrap_interval, paired_bootstrap
from ragdro.retrieval.cache import cached_candidates
from ragdro.retrieval.candidates import write_passages
from ragdro.types import Passage, Question

SETS = {
    "hotpotqa": (
        "multihop/hotpotqa_dev.jsonl",
        "multihop/hotpotqa_train.jsonl",
        "more/hotpotqa_train_2226.jsonl.gz",
    ),
    "2wiki": ("multihop/2wiki_dev.jsonl", "multihop/2wiki_train.jsonl", "more/2wiki_train_472.jsonl.gz"),
    "musique": (
        "multihop/musique_dev.jsonl",
        "multihop/musique_train.jsonl",
        "more/musique_train_508.jsonl.gz",
    ),
}
"""The files of questions; the first is held out in trainings."""
TAUGHT = {
    "hotpotqa": (),
    "2wiki": ("original/2wiki_train_500.json",),
    "musique": ("original/musique_200.jsonl", "original/musique_train_100.json"),
}
"""The files that have a teacher's follow-up queries."""


def main() -> None:
    """Measure and print a table a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--budgets", nargs="+", type=int, default=[10, 20], metavar="N")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        search = Search(
            whole_corpus(name, options.data, options.out), options.out / "cache", max(options.budgets)
        )
        groups = {label: list(group) for label, group in questions_of(name, options.data).items()}
        for label, group in groups.items():
            known = [q for q in group if all(g.content in search.contents for g in q.gold_passages)]
            left_out = f", {n} left out whose gold is not in them" if (n := len(group) - len(known)) else ""
            size = f"{len(known)} questions, {len(search.contents)} passages{left_out}"
            print(f"\n{name}, {label}: {size}\n", flush=True)
            for line in table(known, search, options.budgets, taught="taught" in label):
                print(line, flush=True)


def whole_corpus(name: str, data: Path, out: Path) -> Path:
    """The set's passages of `corpora/` and `more/`, each text once, in one file."""
    path = out / f"{name}.jsonl"

    def different() -> Iterator[Passage]:
        seen: set[tuple[str, str]] = set()
        for part in (f"corpora/{name}.jsonl", f"more/corpus_{name}_more.jsonl.gz"):
            for passage in read_corpus(data / part):
                if passage.content not in seen:
                    seen.add(passage.content)
                    yield Passage(f"{len(seen)}", passage.title, passage.text)

    write_passages(path, different())
    return path


def questions_of(name: str, data: Path) -> dict[str, list[Question]]:
    """All questions with gold passages, the held-out ones, and those that a teacher asked further, if any."""
    files = [[q for q in read_questions(data / part) if q.gold_passages] for part in SETS[name]]
    taught = [
        q for part in TAUGHT[name] for q in read_questions(data / part) if q.queries and q.gold_passages
    ]
    groups = {"all": [q for part in files for q in part], "held out": files[0], "taught": taught}
    return {label: group for label, group in groups.items() if group}


class Search:
    """BM25 over one corpus; each query's list is found once."""

    def __init__(self, corpus: Path, cache: Path, depth: int) -> None:
        self.corpus, self.cache, self.depth = corpus, cache, depth
        self.contents = {passage.content for passage in read_corpus(corpus)}

    def __call__(self, queries: Iterable[str]) -> dict[str, tuple[Passage, ...]]:
        """The top `depth` of each query, best first."""
        asked = [Question(f"{i}", query, ()) for i, query in enumerate(dict.fromkeys(queries))]
        candidates = cached_candidates(asked, self.corpus, Bm25Settings(), self.depth, self.cache)
        return {q.question: c.passages for q, c in zip(asked, candidates, strict=True)}


def read(lists: Sequence[Sequence[Passage]], budget: int) -> list[Passage]:
    """`budget` different passages: half from the first list, the rest shared by the others; what a list lacks
    comes from the first."""
    held: dict[tuple[str, str], Passage] = {}
    further = len(lists) - 1
    limits = [budget - budget // 2 if further else budget]
    limits += [limits[0] + (budget // 2) * (i + 1) // further for i in range(further)]
    for passages, limit in zip((*lists, lists[0]), (*limits, budget), strict=True):
        for passage in passages:
            if len(held) < limit:
                held.setdefault(passage.content, passage)
    return list(held.values())


def further_queries(system: str, question: Question, first: Sequence[Passage]) -> tuple[str, ...]:
    """What the oracle asks after the passages `first`."""
    gold = question.gold_passages
    contents = {passage.content for passage in first}
    gold_read = [passage for passage in first if passage.content in {g.content for g in gold}]
    match system:
        case "one":
            return ()
        case "read":
            return (f"{question.question} {(gold_read or gold)[0].title}",)
        case "copied" | "missing":
            titles = dict.fromkeys(g.title for g in gold if g.content not in contents)
            text = " ".join(passage.text for passage in gold_read).casefold()
            return tuple(t for t in titles if system == "missing" or t.split(" (")[0].casefold() in text)
        case _:
            return question.queries or ()


def table(
    questions: Sequence[Question], search: Search, budgets: Sequence[int], *, taught: bool
) -> Iterator[str]:
    """A row a budget and system."""
    yield "| N | queries | recall of gold | all gold | all gold, difference to one |"
    yield "|---|---|---|---|---|"
    lists = search(q.question for q in questions)
    for budget in budgets:
        before: list[float] = []
        for system in ("one", "read", "copied", "missing", *(["teacher"] if taught else [])):
            asked = [further_queries(system, q, lists[q.question][: budget - budget // 2]) for q in questions]
            more = search(query for queries in asked for query in queries) if any(asked) else {}
            shown = [
                read([lists[q.question], *(more[query] for query in queries)], budget)
                for q, queries in zip(questions, asked, strict=True)
            ]
            recall, whole = scores(questions, shown)
            before = before or whole
            gain = (
                signed(paired_bootstrap(before, whole, np.random.default_rng(0))) if system != "one" else "–"
            )
            cells = [shown_interval(bootstrap_interval(v, np.random.default_rng(0))) for v in (recall, whole)]
            yield f"| {budget} | {system} | {' | '.join(cells)} | {gain} |"


def scores(
    questions: Sequence[Question], shown: Sequence[Sequence[Passage]]
) -> tuple[list[float], list[float]]:
    """Of each question, the fraction of its gold passages among those shown, and whether all are."""
    recall, whole = [], []
    for question, passages in zip(questions, shown, strict=True):
        gold, held = {g.content for g in question.gold_passages}, {p.content for p in passages}
        recall.append(len(gold & held) / len(gold))
        whole.append(full_recall(passages, question.gold_passages) or 0.0)
    return recall, whole


def shown_interval(interval: Interval) -> str:
    """A mean with its bounds."""
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def signed(interval: Interval) -> str:
    """A difference with its bounds."""
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


if __name__ == "__main__":
    try:
        main()
    except RagdroError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
