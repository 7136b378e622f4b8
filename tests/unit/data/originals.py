"""Small files in the exact shape of each original, written by us: name → (bytes, what must be read)."""

from __future__ import annotations

import json
from typing import Any


def jsonl(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def listed(*records: Any) -> bytes:
    return json.dumps(list(records), indent=2).encode()


OWN = {
    "id": "q1",
    "question": "Which river crosses Arlen?",
    "answers": ["the Visk", "Visk"],
    "passages": [
        {"title": "Arlen", "text": "Arlen lies on the Visk.", "gold": True},
        {"id": "p9", "title": "Oster", "text": "Oster is a hill.", "gold": False},
    ],
    "candidates": [
        {"id": "c7", "title": "Arlen", "text": "Arlen lies on the Visk.", "score": 2.5},
        {"title": "Oster", "text": "Oster is a hill.", "score": 1},
    ],
    "ranking": ["p9", "c7"],
    "hops": 2,
    "queries": ["Visk source"],
}
NQ_OPEN = {"question": "who founded arlen", "answer": ["Mara Dell", "M. Dell"]}
DPR_RETRIEVER = {
    "dataset": "nq_train_made_up",
    "question": "who founded arlen",
    "answers": ["Mara Dell"],
    "positive_ctxs": [
        {
            "title": "Arlen",
            "text": "Mara Dell founded Arlen.",
            "score": 1000,
            "title_score": 1,
            "passage_id": "71",
        }
    ],
    "negative_ctxs": [{"title": "Oster", "text": "A hill.", "score": 0, "title_score": 0, "passage_id": "5"}],
    "hard_negative_ctxs": [
        {"title": "Dell", "text": "A valley.", "score": 9.1, "title_score": 0, "psg_id": 6}
    ],
}
DPR_RESULTS = {
    "question": "who founded arlen",
    "answers": ["Mara Dell"],
    "ctxs": [
        {"id": "wiki:8", "title": "Oster", "text": "A hill.", "score": "79.5", "has_answer": False},
        {
            "id": "wiki:3",
            "title": "Arlen",
            "text": "Mara Dell founded Arlen.",
            "score": "78.25",
            "has_answer": True,
        },
    ],
}
KILT = {
    "id": "k-1",
    "input": "who founded arlen",
    "output": [
        {
            "answer": " Mara Dell ",
            "provenance": [
                {
                    "wikipedia_id": "71",
                    "title": "Arlen",
                    "section": "Section::::Abstract.",
                    "start_paragraph_id": 1,
                }
            ],
        },
        {"answer": "Mara Dell"},
        {"provenance": [{"wikipedia_id": "72", "title": "Dell"}]},
    ],
    "meta": {"partial_evidence": []},
}
KILT_WOW = {
    "id": "54b85f36-99cd-11ea-aa09-57c1ffc5a65b_3",
    "input": "I like gardens.\nSo do I!\nWhat grows there?",
    "output": [{"answer": "Mostly onions.", "provenance": [{"wikipedia_id": "9", "title": "Onion"}]}],
}
HOTPOTQA = {
    "_id": "5a77ec115542992a6e59dff0",
    "answer": "yes",
    "question": "Are Arlen and Oster in one land?",
    "supporting_facts": [["Arlen", 1], ["Oster", 0]],
    "context": [
        ["Arlen", ["Arlen is a town.", " It lies in Vesk."]],
        ["Dell", ["Dell is a valley."]],
        ["Oster", ["Oster is a hill in Vesk."]],
    ],
    "type": "comparison",
    "level": "medium",
}
HOTPOTQA_HUB = {
    "id": "5a77ec115542992a6e59dff0",
    "question": HOTPOTQA["question"],
    "answer": "yes",
    "type": "comparison",
    "level": "medium",
    "supporting_facts": {"title": ["Arlen", "Oster"], "sent_id": [1, 0]},
    "context": {
        "title": ["Arlen", "Dell", "Oster"],
        "sentences": [
            ["Arlen is a town.", " It lies in Vesk."],
            ["Dell is a valley."],
            ["Oster is a hill in Vesk."],
        ],
    },
}
TWOWIKI = {
    "_id": "13f5ad2c088c11ebbd6fac1f6bf848b6",
    "type": "compositional",
    "question": "Where was the founder of Arlen born?",
    "entity_ids": "Q1_Q2",
    "context": [
        ["Arlen", ["Arlen was founded by Mara Dell.", "It is a town."]],
        ["Mara Dell", ["Mara Dell was born in Vesk."]],
        ["Oster", ["Oster is a hill."]],
    ],
    "supporting_facts": [["Arlen", 0], ["Mara Dell", 0]],
    "evidences": [["Arlen", "founded by", "Mara Dell"], ["Mara Dell", "place of birth", "Vesk"]],
    "evidences_id": [["Q1", "founded by", "Q2"], ["Q2", "place of birth", "Q3"]],
    "answer_id": "Q3",
    "answer": "Vesk",
}
ALIASES = [
    {"Q_id": "Q3", "aliases": ["Land of Vesk", "Vesk"], "demonyms": ["Veskan"]},
    {"Q_id": "Q2", "aliases": ["M. Dell"], "demonyms": []},
]
MUSIQUE = {
    "id": "2hop__1_2",
    "paragraphs": [
        {
            "idx": 0,
            "title": "Arlen",
            "paragraph_text": "Arlen was founded by Mara Dell.",
            "is_supporting": True,
        },
        {"idx": 1, "title": "Oster", "paragraph_text": "Oster is a hill.", "is_supporting": False},
        {"idx": 2, "title": "Mara Dell", "paragraph_text": "She was born in Vesk.", "is_supporting": True},
    ],
    "question": "Where was the founder of Arlen born?",
    "question_decomposition": [
        {"id": 1, "question": "Arlen >> founded by", "answer": "Mara Dell", "paragraph_support_idx": 0},
        {"id": 2, "question": "#1 >> place of birth", "answer": "Vesk", "paragraph_support_idx": 2},
    ],
    "answer": "Vesk",
    "answer_aliases": ["Land of Vesk", ""],
    "answerable": True,
}
FLASHRAG = {
    "id": "test_0",
    "question": "who founded arlen",
    "golden_answers": ["Mara Dell"],
    "metadata": {"context": HOTPOTQA_HUB["context"], "supporting_facts": HOTPOTQA_HUB["supporting_facts"]},
}
FLASHRAG_CORPUS = [
    {"id": "0", "contents": '"The ""Arlen"" song"\nA song.\nOf two lines.'},
    {"id": "1", "contents": "No title here"},
]
DRO = {
    "question": "who founded arlen",
    "answer": "Mara Dell",
    "positive": ["Title: U.S.. Content: U.S. text, by Mara Dell."],
    "query_id": "query_1",
    "retrieval": [
        'Title: "The ""Big"" O" Text:  Known as ""Act"" one.',
        "Title: Monarchy Text:  A Title: is no Text: marker here.",
    ],
}
DRO_TRAINING = {
    "prompt": "You are an assistant.\n\n"
    'Please answer the question: "who founded arlen" using provided passages.\n'
    "Here are the related passages for your reference.\n"
    '[1] Title: "Arlen" Text:  Mara Dell founded ""Arlen"".\n'
    "[2] Title: Oster Text:  A hill. [3] is not a passage.\n"
    "Question: who founded arlen\nYour answer: ",
    "response": "Mara Dell",
    "sample_id": 0,
    "query_id": "17",
    "probs": 1.0,
}
WIZARD = {
    "id": "wow-1",
    "dialogue": 4,
    "context": ["I like gardens.", "So do I!"],
    "response": "Mostly onions.",
    "knowledge": "Onions grow in gardens.",
}
CORPUS = [
    {"id": "a", "title": "Arlen", "text": "Arlen lies on the Visk."},
    {"id": 2, "title": "", "text": "Untitled."},
]
PSGS = (
    "id\ttext\ttitle\n"
    '1\t"Aaron (""Ahärôn"") is a prophet."\tAaron\n'
    '2\tPlain text with "quotes" inside.\t"The ""Big"" O"\r\n'
).encode()
BEIR = {
    "corpus.jsonl": jsonl(
        {"_id": "d1", "title": "Arlen", "text": "Mara Dell founded Arlen.", "metadata": {}},
        {"_id": "d2", "title": "Oster", "text": "", "metadata": {}},
        {"_id": "d3", "title": "", "text": "A valley.", "metadata": {}},
    ),
    "queries.jsonl": jsonl(
        {"_id": "t1", "text": "who founded arlen", "metadata": {"answer": "Mara Dell"}},
        {"_id": "t2", "text": "what is oster", "metadata": {}},
        {"_id": "t3", "text": "in no split", "metadata": {}},
    ),
    "qrels/test.tsv": b"query-id\tcorpus-id\tscore\nt1\td3\t1\nt1\td1\t2\nt1\td2\t0\n",
    "qrels/train.tsv": b"query-id\tcorpus-id\tscore\nt2\td2\t1\n",
}

QUESTION_FILES: dict[str, bytes] = {
    "own": jsonl(OWN, {**OWN, "id": "q2"}),
    "nq-open": jsonl(NQ_OPEN),
    "dpr": listed(DPR_RETRIEVER, DPR_RESULTS),
    "kilt": jsonl(KILT, KILT_WOW),
    "hotpotqa": listed(HOTPOTQA),
    "2wikimultihopqa": listed(TWOWIKI),
    "musique": jsonl(MUSIQUE),
    "flashrag": jsonl(FLASHRAG),
    "dro-authors": listed(DRO, DRO_TRAINING),
    "wizard-of-wikipedia": jsonl(WIZARD),
}
CORPUS_FILES: dict[str, bytes] = {
    "own": jsonl(*CORPUS),
    "flashrag": jsonl(*FLASHRAG_CORPUS),
    "beir": BEIR["corpus.jsonl"],
    "psgs-w100": PSGS,
}
