"""The official scripts' metrics on hand-worked predictions, through the files that they read."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragdro.errors import DataError
from ragdro.evaluation.score import Score, score
from tests.unit.data import originals as o


def dump(folder: Path, name: str, value: Any, *, by_line: bool = False) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(v) + "\n" for v in value) if by_line else json.dumps(value))
    return path


def scored(data: Path, predictions: Path, **options: Any) -> Score:
    return score(data, predictions, np.random.default_rng(0), resamples=50, **options)


def means(result: Score) -> dict[str, float]:
    return {name: interval.mean for name, interval in result.official.items()}


def four(prefix: str, em: float, f1: float, precision: float, recall: float) -> dict[str, float]:
    return {f"{prefix}em": em, f"{prefix}f1": f1, f"{prefix}prec": precision, f"{prefix}recall": recall}


def test_hotpotqa(tmp_path: Path) -> None:
    first = {**o.HOTPOTQA, "_id": "a", "answer": "Mara Dell"}
    data = dump(tmp_path, "gold", [first, {**o.HOTPOTQA, "_id": "b"}, {**o.HOTPOTQA, "_id": "c"}])
    predictions = {
        "answer": {"a": "the Dell", "b": "Yes it is", "zz": "unknown"},
        "sp": {"a": [["Arlen", 1], ["Arlen", 1], ["Dell", 0]], "c": [["Arlen", 1], ["Oster", 0]]},
    }
    result = scored(data, dump(tmp_path, "said", predictions))
    # a: answer P 1, R 1/2, F1 2/3; facts P 1/2, R 1/2; joint P 1/2, R 1/4, F1 1/3. b: no facts. c: no answer.
    assert means(result) == pytest.approx(
        four("", 0, 2 / 9, 1 / 3, 1 / 6)
        | four("sp_", 1 / 3, (0.5 + 1) / 3, (0.5 + 1) / 3, (0.5 + 1) / 3)
        | four("joint_", 0, 1 / 9, 1 / 6, 1 / 12)
    )
    assert (result.rule, result.questions, result.missing, result.unknown) == ("hotpotqa", 3, 1, 1)
    assert result.metrics["f1"].mean == pytest.approx(2 / 9)


def test_hotpotqa_without_facts_has_answers_alone(tmp_path: Path) -> None:
    data = dump(tmp_path, "gold", [o.HOTPOTQA])
    result = scored(data, dump(tmp_path, "said", {"answer": {o.HOTPOTQA["_id"]: "YES."}}))
    assert means(result) == four("", 1, 1, 1, 1)


def test_2wiki_with_aliases_in_answers_and_evidence(tmp_path: Path) -> None:
    data = dump(
        tmp_path, "gold", [o.TWOWIKI, {**o.TWOWIKI, "_id": "b", "answer_id": None, "evidences_id": []}]
    )
    aliases = dump(tmp_path, "names", o.ALIASES, by_line=True)
    predictions = {
        "answer": {o.TWOWIKI["_id"]: "the land of vesk", "b": "Land of Vesk"},
        "sp": {o.TWOWIKI["_id"]: [["ARLEN", 0], ["Mara Dell", 0]], "b": [["Arlen", 0], ["arlen", 0]]},
        "evidence": {
            o.TWOWIKI["_id"]: [["arlen", "Founded-by", "m dell"], ["M. Dell", "place of birth", "veskan"]],
            "b": [["arlen", "founded by", "m dell"], ["x", "y", "z"], ["Arlen", "founded by", "Mara Dell"]],
        },
    }
    result = scored(data, dump(tmp_path, "said", predictions), aliases=aliases)
    # first: all right, but "Founded-by" is "foundedby": evidence 1 of 2. second: answer P 1/3, R 1; facts:
    # two spellings of one title both count as right (as the script has it): P 1, R 1/2, F1 2/3; evidence 1 of
    # 3 said and of 2 gold: F1 0.4.
    assert means(result) == pytest.approx(
        four("", 0.5, (1 + 0.5) / 2, (1 + 1 / 3) / 2, 1)
        | four("sp_", 0.5, (1 + 2 * (2 / 3) / (5 / 3)) / 2, 1, (1 + 2 / 3) / 2)
        | four("evi_", 0, (0.5 + 0.4) / 2, (0.5 + 1 / 3) / 2, 0.5)
        | {"joint_em": 0.0, "joint_prec": (0.5 + 1 / 9) / 2, "joint_recall": (0.5 + 1 / 3) / 2}
        | {"joint_f1": (0.5 + 2 * (1 / 9) * (1 / 3) / (4 / 9)) / 2}
    )
    assert scored(data, tmp_path / "said").official["em"].mean == 0.0


def test_musique_and_musique_full(tmp_path: Path) -> None:
    data = dump(tmp_path, "gold", [o.MUSIQUE, {**o.MUSIQUE, "id": "2"}], by_line=True)
    rows = [
        {"id": o.MUSIQUE["id"], "predicted_answer": "land of VESK", "predicted_support_idxs": [0, 1]},
        {"id": "2", "predicted_answer": "the", "predicted_support_idxs": []},
    ]
    for row in rows:
        row["predicted_answerable"] = True
    # the second answers "the" where an alias is empty: both normalise to nothing, exact match and F1 1
    result = scored(data, dump(tmp_path, "said", rows, by_line=True))
    expected = {"answer_em": 1.0, "answer_f1": 1.0, "support_em": 0.0, "support_f1": 0.25}
    assert means(result) == pytest.approx(expected)

    unanswerable = copy.deepcopy(o.MUSIQUE) | {"answerable": False}
    full_data = dump(tmp_path, "full", [unanswerable, o.MUSIQUE], by_line=True)
    said = [{**rows[0], "predicted_answerable": False}, rows[0]]
    result = scored(full_data, dump(tmp_path, "said", said, by_line=True))
    groups = {"group_answer_sufficiency_f1": 1.0, "group_support_sufficiency_f1": 0.5}
    assert means(result) == pytest.approx({**expected, "support_f1": 0.5, **groups})
    assert result.metrics["f1"].mean == 1.0
    wrong = [{**rows[0], "predicted_answerable": True}, rows[0]]
    result = scored(full_data, dump(tmp_path, "said", wrong, by_line=True))
    assert means(result)["group_answer_sufficiency_f1"] == 0.0


def kilt_gold(named: str, *sets: tuple[str, list[str]]) -> dict[str, Any]:
    outputs = [
        {"answer": a, "provenance": [{"wikipedia_id": p, "title": p} for p in pages]} for a, pages in sets
    ]
    return {"id": named, "input": "q", "output": outputs}


def kilt_said(named: str, answer: object, *pages: str) -> dict[str, Any]:
    return {"id": named, "output": [{"answer": answer, "provenance": [{"wikipedia_id": p} for p in pages]}]}


def test_kilt(tmp_path: Path) -> None:
    data = dump(
        tmp_path,
        "gold",
        [
            kilt_gold("a", (" Mara Dell ", ["1", "2"]), ("M. Dell", ["7"])),
            kilt_gold("b", ("Vesk", ["3"])),
            kilt_gold("c", ("1990", ["4"])),
        ],
        by_line=True,
    )
    said = [
        kilt_said("c", 1990, "4"),
        kilt_said("b", "  ", "3"),
        kilt_said("a", "mara dell.", "1", "9", "9", "2", "8", "5", "7"),
    ]
    # a: R-precision 1/2 (first two pages), the set {1, 2} is complete at its last page, {7} at rank 6 of the
    # collapsed ranking 9 2 8 5 7 → within 5: both of two. b: an empty answer.
    result = scored(data, dump(tmp_path, "said", said, by_line=True))
    rouge = 2 / (2 + 1e-8)
    assert means(result) == pytest.approx(
        {
            "accuracy": 1 / 3,
            "em": 2 / 3,
            "f1": 2 / 3,
            "rougel": (0.0 + rouge) / 3,
            "KILT-accuracy": 1 / 3,
            "KILT-em": 1 / 3,
            "KILT-f1": 1 / 3,
            "KILT-rougel": rouge / 3,
            "Rprec": (0.5 + 1 + 1) / 3,
            "recall@5": (1 + 1 + 1) / 3,
        }
    )
    assert (result.empty, result.missing) == (1, 0)


def test_dpr_reader_and_retriever(tmp_path: Path) -> None:
    data = dump(tmp_path, "gold", [o.DPR_RESULTS, {**o.DPR_RESULTS, "answers": ["a\u0301 x"]}])
    result = scored(data, dump(tmp_path, "said", {"dpr-0": "the MARA dell", "dpr-1": "\u0301 x"}))
    assert means(result) == {"em": 0.5} and result.prediction_format == "squad"
    assert result.metrics["exact_match"].mean == 0.5
    assert result.metrics["retriever_recall_at_1"].mean == 0.0
    assert "retriever_recall_at_3" not in result.metrics  # two contexts only


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"id": "a", "answer": 5}', "field 'answer': must be a string"),
        ('{"id": "a", "answer": "x"}\n{"id": "a", "answer": "y"}', "prediction id 'a' appears twice"),
        ('{"id": "other", "answer": "x"}', "no id is that of a question"),
        ('{"id": "a"}', "is no prediction that we read"),
        ("", "no predictions"),
        ("[]", "no predictions"),
        ("[1]", "must hold a JSON object"),
        ('{"answer": {"a": "x"}, "sp": {"a": [["t"]]}}', r"field 'sp.a\[0\]': must be a title"),
        ('{"id": "a", "output": []}', "must hold one output, holds 0"),
        ('{"answer": {"a": "x"}', "is not valid JSON"),
        ('{"id": "a", "answer": "x"}\n{"id": ', "said:2: is not valid JSON"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(tmp_path: Path, said: str, message: str) -> None:
    data = dump(tmp_path, "gold", [{"id": "a", "question": "q", "answers": ["x"]}], by_line=True)
    (tmp_path / "said").write_text(said)
    with pytest.raises(DataError, match=message) as caught:
        scored(data, tmp_path / "said")
    assert "\n" not in str(caught.value)
