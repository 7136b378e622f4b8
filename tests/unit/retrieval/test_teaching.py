"""A retriever that is trained on labels: its losses by hand, what it is compared with, that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

pytest.importorskip("sentence_transformers")

from ragdro.config.retriever import ColbertSettings, DenseSettings
from ragdro.config.teaching import RetrieverTraining
from ragdro.errors import RetrievalError
from ragdro.retrieval import teaching
from ragdro.retrieval.encoders import load_bi_encoder, load_token_encoder
from ragdro.retrieval.losses import squared_distance
from ragdro.retrieval.teaching import MARGIN, SCALE, _dataset, _loss, rows_of, teach
from ragdro.types import Passage, Question, RelevanceLabels
from tests.unit.retrieval.conftest import WORDS, generated_corpus

VALUES = (0.1, 0.0, 0.9, 0.0, 0.6, 0.0)


def labelled(number: int, values: tuple[float, ...] = VALUES) -> RelevanceLabels:
    """Question `number`, its passages in the retriever's order."""
    word = WORDS[number]
    passages = tuple(Passage(f"q{number}-{i}", "", f"{word} {WORDS[-1 - i]}") for i in range(len(values)))
    return RelevanceLabels(Question(f"q{number}", f"Which {word}?", ("a",)), passages, values)


def texts(one: RelevanceLabels, *places: int) -> list[str]:
    return [one.passages[i].text for i in places]


def test_half_are_the_best_and_half_are_those_that_no_list_chose() -> None:
    one = labelled(0)
    (row,) = rows_of([one], RetrieverTraining(passages=4, loss="kl"))
    assert row == ("Which river?", texts(one, 2, 4, 1, 3), [0.9, 0.6, 0.0, 0.0])


def test_infonce_has_a_row_for_each_likely_passage_and_never_another_positive_in_it() -> None:
    one, unsure = labelled(0), labelled(1, (0.0, 0.3, 0.2, 0.0))
    rows = rows_of([one, unsure], RetrieverTraining(passages=3, loss="infonce"))
    assert [row[1] for row in rows] == [texts(one, 2, 1, 3), texts(one, 4, 1, 3), texts(unsure, 1, 0, 3)]

    surer = rows_of([one, unsure], RetrieverTraining(passages=3, likely=0.8))
    assert [row[1] for row in surer] == [texts(one, 2, 1, 3), texts(unsure, 1, 0, 3)]


def test_questions_with_few_candidates_are_filled_up_with_passages_of_others() -> None:
    few, other = labelled(0, (1.0, 0.0)), labelled(1)
    rows = rows_of([few, other], RetrieverTraining(passages=4, loss="kl"))
    _, passages, values = rows[0]
    assert passages[0] == few.passages[0].text and values == [1.0, 0.0, 0.0, 0.0]
    assert set(passages) - set(texts(few, 0, 1)) <= set(texts(other, *range(6))) and len(set(passages)) == 4
    assert rows_of([labelled(0, (0.0, 0.0)), labelled(1, (1.0, 1.0))], RetrieverTraining()) == []


LOSSES = ("kl", "infonce", "margin", "wasserstein")


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_what_a_calculation_by_hand_says(loss: str, random_bert: Path) -> None:
    training = RetrieverTraining(loss=loss, passages=4)  # type: ignore[arg-type]
    rows = rows_of([labelled(0), labelled(1, (0.0, 0.7, 0.2, 0.0, 0.1)), labelled(2)], training)
    model = load_bi_encoder(DenseSettings(model=str(random_bert), device="cpu")).eval()
    found = float(_forward(model, training, rows).detach())
    asked = model.encode([q for q, _, _ in rows], normalize_embeddings=True)
    read = np.stack([model.encode(passages, normalize_embeddings=True) for _, passages, _ in rows])
    labels = np.array([values for _, _, values in rows])
    by_hand = {"kl": _kl, "infonce": _infonce, "margin": _margin, "wasserstein": _wasserstein}[loss]
    assert found == pytest.approx(by_hand(asked, read, labels), rel=1e-3, abs=1e-5)


def _forward(model: Any, training: RetrieverTraining, rows: list[Any]) -> torch.Tensor:
    data = _dataset(rows, training)
    features = [model.preprocess(list(data[name])) for name in data.column_names if name != "label"]
    labels = torch.tensor(list(data["label"])) if "label" in data.column_names else None
    result: torch.Tensor = _loss(model, training)(features, labels)
    return result


Matrix = NDArray[Any]


def _cosines(asked: Matrix, read: Matrix) -> Matrix:
    return np.einsum("qw,qnw->qn", asked, read)


def _kl(asked: Matrix, read: Matrix, labels: Matrix) -> float:
    """Passages of the other questions are worth nothing."""
    target = labels / labels.sum(axis=1, keepdims=True)
    terms = []
    for i, question in enumerate(asked):
        log_p = log_softmax(SCALE * read.reshape(-1, read.shape[-1]) @ question)
        own = log_p[i * labels.shape[1] : (i + 1) * labels.shape[1]]
        terms += [t * (np.log(t) - p) for t, p in zip(target[i], own, strict=True) if t > 0]
    return float(sum(terms) / len(labels))


def _infonce(asked: Matrix, read: Matrix, labels: Matrix) -> float:
    scores = SCALE * np.einsum("qw,pnw->qpn", asked, read)
    of_all = log_softmax(scores.reshape(len(asked), -1), axis=1).reshape(scores.shape)
    return -float(np.mean([of_all[i, i, 0] for i in range(len(asked))]))


def _margin(asked: Matrix, read: Matrix, labels: Matrix) -> float:
    cosines = _cosines(asked, read)
    asked_for = MARGIN * (labels[:, :1] - labels[:, 1:])
    return float(np.mean((cosines[:, :1] - cosines[:, 1:] - asked_for) ** 2))


def _wasserstein(asked: Matrix, read: Matrix, labels: Matrix) -> float:
    scores = softmax(SCALE * _cosines(asked, read), axis=1)
    return _w2(scores, labels / labels.sum(axis=1, keepdims=True))


def _w2(first: Matrix, second: Matrix) -> float:
    a, b = np.cov(first.T, bias=True), np.cov(second.T, bias=True)
    root = _root(a)
    means = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    return float(means + np.trace(a) + np.trace(b) - 2 * np.trace(_root(root @ b @ root)))


def _root(matrix: Matrix) -> Matrix:
    """Of a matrix that is symmetric and has no negative eigenvalue."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T


def test_the_distance_of_two_samples_is_that_of_the_matrix_formula() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(9, 4)), 0.3 + rng.normal(size=(9, 4)) @ rng.normal(size=(4, 4))
    found = squared_distance(torch.tensor(first), torch.tensor(second))
    assert float(found) == pytest.approx(_w2(first, second))
    assert float(squared_distance(torch.tensor(first), torch.tensor(first))) == pytest.approx(0, abs=1e-12)
    with_gradient = torch.tensor(first, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: squared_distance(x, torch.tensor(second)), (with_gradient,))


def _ranks_first(encoder: Any, labels: list[RelevanceLabels], late: bool) -> float:
    hits = []
    for one in labels:
        asked = encoder.encode_query([one.question.question])
        read = encoder.encode_document([p.text for p in one.passages])
        scores = np.asarray(encoder.similarity(asked, read))[0]
        hits.append(scores.argmax() == np.argmax(one.values))
    return float(np.mean(hits))


@pytest.mark.parametrize("loss", [*LOSSES, "colbert kl", "colbert infonce"])
def test_it_learns_what_it_is_taught(
    loss: str, random_bert: Path, random_colbert: Path, tmp_path: Path
) -> None:
    """Which passage is right: the one of the question's word, of six that have other words."""
    kind, _, name = loss.rpartition(" ")
    pool = [p.text for p in generated_corpus(60)]
    labels = [
        RelevanceLabels(
            Question(str(i), f"Which {word}?", ("a",)),
            tuple(Passage(f"{i}-{j}", "", t) for j, t in enumerate([*pool[5 * i : 5 * i + 5], word])),
            (0.0, 0.0, 0.0, 0.0, 0.2, 1.0),
        )
        for i, word in enumerate(WORDS[:10])
    ]
    late = bool(kind)
    settings = (
        ColbertSettings(model=str(random_colbert), device="cpu")
        if late
        else DenseSettings(model=str(random_bert), device="cpu")
    )
    training = RetrieverTraining(loss=name, passages=4, batch_size=5, epochs=12, learning_rate=1e-3)  # type: ignore[arg-type]
    load: Any = load_token_encoder if late else load_bi_encoder
    before = _ranks_first(load(settings), labels, late)
    teach(labels, settings, training, tmp_path / "taught")
    taught = load(settings.model_copy(update={"model": str(tmp_path / "taught")}))
    assert _ranks_first(taught, labels, late) >= max(0.8, before)
    assert before < 0.8


@pytest.mark.parametrize("loss", ["kl", "infonce"])
def test_an_epoch_has_every_question_also_where_they_share_passages(
    loss: Any, random_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(*arguments: Any) -> Any:
        made = _loss(*arguments)
        made.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0][0]["input_ids"])))
        return made

    monkeypatch.setattr(teaching, "_loss", counted)
    shared = labelled(0, (1.0, 0.0, 0.0, 0.0)).passages
    questions = [Question(f"q{i}", f"Which {WORDS[i]}?", ("a",)) for i in range(4)]
    labels = [RelevanceLabels(q, shared, (1.0, 0.0, 0.0, 0.0)) for q in questions]
    training = RetrieverTraining(loss=loss, passages=4, batch_size=4, epochs=2)
    teach(labels, DenseSettings(model=str(random_bert), device="cpu"), training, tmp_path / "taught")
    assert asked == [1] * 8


def test_what_cannot_be_trained_is_refused(random_colbert: Path, tmp_path: Path) -> None:
    settings = ColbertSettings(model=str(random_colbert), device="cpu")
    with pytest.raises(RetrievalError, match="--loss margin: is for bi-encoders"):
        teach([labelled(0), labelled(1)], settings, RetrieverTraining(loss="margin", passages=4), tmp_path)
    with pytest.raises(RetrievalError, match="only 0 of the questions teach anything"):
        teach([labelled(0, (1.0, 1.0))], settings, RetrieverTraining(passages=2), tmp_path)
    with pytest.raises(RetrievalError, match="--passages 8: the questions have only 6 in all"):
        teach([labelled(0)], settings, RetrieverTraining(), tmp_path)
    with pytest.raises(RetrievalError, match="no such checkpoint folder"):
        nowhere = DenseSettings(model=str(tmp_path / "nothing"))
        teach([labelled(0), labelled(1)], nowhere, RetrieverTraining(passages=4), tmp_path)
