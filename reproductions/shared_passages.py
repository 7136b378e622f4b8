"""How many tokens of candidates are of passages that another question has as well: counting, no model.

    python reproductions/shared_passages.py QUESTIONS CORPUS --tokenizer MODEL

BM25 finds the candidates. Each passage is tokenised and cut as one of the generator's blocks is. Printed, for
all candidates and for the first five: the mean tokens a question, and which fraction of them would not be
computed if a passage were computed once in a batch of so many questions, and once for all questions. The
questions come in a random order, as in an update.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from ragdro.config.retriever import Bm25Settings
from ragdro.data import read_questions
from ragdro.lm.tokens import TextTokenizer
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.retrieval.cache import cached_candidates
from ragdro.types import Passage

BATCHES = (16, 64)


def saved(lists: Sequence[Sequence[Passage]], lengths: dict[str, int], batch: int) -> float:
    """The fraction of all tokens that are of a passage which an earlier question of the same batch has."""
    total = sum(lengths[p.id] for chosen in lists for p in chosen)
    needed = 0
    for start in range(0, len(lists), batch):
        needed += sum(lengths[i] for i in {p.id for chosen in lists[start : start + batch] for p in chosen})
    return 1 - needed / total


def main() -> None:
    """Count, and print a row of a Markdown table for the candidates and one for the first five."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("questions")
    parser.add_argument("corpus")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--top-n", type=int, default=20)
    parser.add_argument("--passage-tokens", type=int, default=180)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    args = parser.parse_args()
    questions = list(read_questions(args.questions))
    searched = cached_candidates(questions, args.corpus, Bm25Settings(), args.top_n, args.cache)
    order = np.random.default_rng(0).permutation(len(searched))
    candidates = [searched[i].passages for i in order]
    tokenizer = TextTokenizer(AutoTokenizer.from_pretrained(args.tokenizer), name=args.tokenizer)
    template, budget = load_template("generator"), Budget(256, args.passage_tokens)
    distinct = list({p.id: p for chosen in candidates for p in chosen}.values())
    blocks = template.encode_blocks(tokenizer, "?", distinct, len(distinct), budget)[1:-1]
    lengths = {p.id: len(block) for p, block in zip(distinct, blocks, strict=True)}
    print(f"| questions | passages | tokens a question | {' | '.join(map(str, BATCHES))} | all |")
    for count in (args.top_n, 5):
        lists = [chosen[:count] for chosen in candidates]
        tokens = sum(lengths[p.id] for chosen in lists for p in chosen) / len(lists)
        cells = [f"{saved(lists, lengths, batch):.3f}" for batch in (*BATCHES, len(lists))]
        print(f"| {len(lists):,} | {count} | {tokens:,.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
