"""What the page shows of an answer: candidates, lists, stages, paths, and where the answer stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route, expect

from ragdro.runs.load import load
from ragdro.system import Rag
from tests.pipeline.page.conftest import ask
from tests.serving import HOSTILE, PASSAGES, QUESTIONS


def test_a_question_its_answer_and_its_candidates(opened: Callable[..., Page], rag: Rag) -> None:
    page = opened()
    ask(page, QUESTIONS[0])
    expected = rag.answer(QUESTIONS[0])
    answer = page.get_by_role("region", name="Answer")
    expect(answer.locator(".said")).to_have_text(expected.answer)
    expect(page.get_by_role("status")).to_have_text(f"Answer: {expected.answer}")
    read = answer.locator(".read > li")
    assert read.locator(".text").all_text_contents() == [p.text for p in expected.selected]
    lines = [item.locator(".facts li").first.inner_text() for item in read.all()]
    assert lines[0].startswith("chosen 1st with probability ") and "given" not in lines[0]
    assert lines[1].endswith(", given the first") and lines[2].endswith(", given the first two")
    assert expected.selection.probabilities is not None
    ranking = rag.selector.rerank(QUESTIONS[0], expected.task.candidates.passages)
    included = {ranked.index: ranked.inclusion for ranked in ranking.passages}
    candidates = page.locator(".candidates > li")
    assert candidates.locator(".text").all_text_contents() == [
        p.text for p in expected.task.candidates.passages
    ]
    assert expected.task.candidates.scores is not None
    for i, item in enumerate(candidates.all()):
        cells = item.locator(".cell").all_inner_texts()
        assert f"{expected.task.candidates.scores[i]:.4g}" in cells[0]
        place = expected.selection.permutation.index(i) if i in expected.selection.permutation else None
        assert ("–" if place is None else ("1st", "2nd", "3rd", "4th", "5th")[place]) in cells[1]
        if 0.005 <= included[i] <= 0.995:
            assert f"{included[i]:.2f}" in cells[2]
    holding = [p.text for p in expected.selected if f" {expected.answer} " in f" {p.text} "]
    assert answer.locator(".read mark").all_text_contents() == [expected.answer] * len(holding)


def test_an_answer_from_several_lists(opened: Callable[..., Page], run: Any) -> None:
    page = opened()
    page.get_by_label("Way to answer").select_option("marginal")
    ask(page, QUESTIONS[0])
    expected = load(run, answering="marginal").answer(QUESTIONS[0])
    assert expected.distribution is not None and 0.995 < expected.distribution.confidence < 1
    answer = page.get_by_role("region", name="Answer")
    expect(answer.locator(".said")).to_have_text(expected.answer)
    fact = answer.locator(".answer .facts li")
    expect(fact).to_have_text(f"confidence > 0.99 over {expected.distribution.lists} drawn lists")
    expect(answer.locator(".competing")).to_have_count(0)  # all lists lead to it

    def unsure(route: Route) -> None:
        competing = [{"answer": HOSTILE, "probability": 0.4}, {"answer": "two", "probability": 0.25}]
        other = {"answer": "", "abstained": True, "confidence": 0.4, "competing": competing}
        route.fulfill(json={**route.fetch().json(), **other})

    page.route("**/v1/answer", unsure)
    ask(page, QUESTIONS[0])
    expect(answer.locator(".said")).to_have_text("no answer")
    expect(fact).to_have_text("confidence 0.40 over 8 drawn lists, below the server’s threshold")
    rows = answer.locator(".competing li")
    expect(rows).to_have_text([f"0.40 {HOSTILE}", "0.25 two"])
    expect(rows.first).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Answer: no answer")


def test_an_answer_from_a_union_says_that_no_list_was_written(opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_label("Way to answer").select_option("union")
    ask(page, QUESTIONS[0])
    read = page.locator(".answer + h3 + .card .read > li").nth(1).locator(".facts li")
    expect(read.nth(0)).to_have_text("read 2nd")
    expect(read.nth(1)).to_contain_text("in the list: ")
    assert "p " not in page.locator(".candidates li.is-read").first.locator(".cell").nth(1).inner_text()


def test_own_passages(opened: Callable[..., Page], rag: Rag) -> None:
    page = opened()
    texts = [f"# Note {i}\n{text}" if i == 1 else text for i, text in enumerate(PASSAGES)]
    ask(page, QUESTIONS[0], passages="\n \n".join(texts))
    given = [{"title": "Note 1" if i == 1 else "", "text": text} for i, text in enumerate(PASSAGES)]
    expected = rag.answer(QUESTIONS[0], given)
    expect(page.locator("#passages-count")).to_have_text("3 passages so far.")
    expect(page.locator(".said")).to_have_text(expected.answer)
    assert page.locator(".candidates .text").all_text_contents() == PASSAGES
    assert page.locator(".candidates .title").all_text_contents() == ["Note 1"]
    assert "exact" in page.locator("#candidates-note").inner_text()  # six lists are possible
    ask(page, QUESTIONS[0], passages="\n\n".join(PASSAGES * 10))
    expect(page.locator(".note")).to_contain_text("a tournament")


def test_stages_side_by_side(opened: Callable[..., Page], run: Any) -> None:
    page = opened()
    answers = []
    ask(page, QUESTIONS[1], "side by side")
    for name, stage in (("vanilla RAG", "vanilla"), ("warm-up", "warm-up"), ("best", "best")):
        expected = load(run, stage=stage).answer(QUESTIONS[1])
        column = page.get_by_role("region", name=name, exact=True)
        expect(column.locator(".said")).to_have_text(expected.answer)
        answers.append(expected.answer)
        assert column.locator(".text").all_text_contents() == [p.text for p in expected.selected]
        chosen = column.get_by_text("chosen 1st with probability").count()
        assert chosen == (expected.selection.probabilities is not None)
    assert answers[1] != answers[2]
    assert page.locator(".candidates > li:first-child .cell-name").all_text_contents() == [
        *("score ", "vanilla RAG ", "warm-up ", "best ")
    ]


def test_examples_of_the_run(opened: Callable[..., Page]) -> None:
    page = opened()
    examples = page.get_by_role("region", name="What training changed")
    expect(examples.locator(".group")).to_have_count(1)
    expect(examples).to_contain_text(
        "Put right: wrong after the warm-up, right at the best iteration (2 of 3)"
    )
    examples.locator(".group > summary").click()
    examples.locator(".group details > summary").nth(0).click()
    expect(examples).to_contain_text(f"warm-up: {HOSTILE} warm_up (wrong), read from")
    page.get_by_label("Stage").select_option("best")
    examples.get_by_role("button", name="Ask it now").nth(0).click()
    expect(page.locator(".answer .question")).to_have_text(QUESTIONS[0])
    page.get_by_role("group", name="Questions of this run").get_by_role("button").nth(1).click()
    expect(page.locator(".answer .question")).to_have_text(f"{QUESTIONS[1]} {HOSTILE}")


def test_a_path_is_shown_round_by_round_and_its_text_stays_text(opened: Callable[..., Page]) -> None:
    page = opened()

    def in_rounds(route: Route) -> None:
        answer = route.fetch().json()
        first, *others = [entry["rank_in_candidates"] for entry in answer["selection"]]
        rest = {"titles": [HOSTILE] * (len(others) + 1), "log_list": -1.0}
        found = [1 if first > 1 else 2, first]
        asked = {"query": HOSTILE, "found": [*others, first], "scores": None, "selected": others}
        rounds = [
            {"query": "q", "found": found, "scores": [2.5, 1.25], "selected": [first], "log_query": None,
             "titles": [HOSTILE, "own"], "log_list": 0.0},
            {**asked, **rest, "log_query": -0.5},
            {"query": "Answer", "found": [], "scores": None, "selected": [], "titles": [], "log_query": 0.0,
             "log_list": 0.0},
        ]  # fmt: skip
        more = {"path": rounds, "thought": HOSTILE, "inclusion": None, "agreement": None}
        route.fulfill(json={**answer, **more})

    page.route("**/v1/answer", in_rounds)
    for stage in ("best", "side by side"):
        ask(page, "q", stage)
        expect(page.locator("#answers .thought").first).to_have_text(f"Thought: {HOSTILE}")
        asked = page.locator("#answers .asked")
        expect(asked.nth(1)).to_have_text(f"round 2: {HOSTILE} (written with probability 0.61)")
        expect(asked.nth(2)).to_have_text(
            "round 3: Answer (written with probability 1.00; the path ends here)"
        )
        first, second = (page.locator(".round").nth(i) for i in (0, 1))
        expect(first.locator(".facts")).to_contain_text("2nd of 2 found, score 1.25")
        expect(first.locator(".note")).to_have_text(f"found too: [1] {HOSTILE} 2.5")
        expect(second.locator(".facts").first).to_contain_text("1st of 5 found")
        if stage == "best":
            expect(second.locator(".facts").first).to_contain_text("chosen 1st with probability")
    expect(page.locator("#candidates-note")).to_contain_text("round by round")


def test_where_an_answer_stands(opened: Callable[..., Page]) -> None:
    page = opened()
    call = "async ([name, args]) => (await import('/page/text.js'))[name](...args)"

    def marked(answer: str, text: str) -> list[str]:
        return [text[a:b] for a, b in page.evaluate(call, ["placesOf", [answer, text]])]

    assert marked("the Lion", "A lion, and THE LION's cub; lions.") == ["lion", "LION"]
    assert marked("New York", "york new york\nnew  York") == ["new york", "new  York"]
    assert marked("US", "In the U.S. they say “us”.") == ["us"] and marked("US", "In the U.S.!") == ["U.S"]
    assert marked("", "text") == marked("the", "the text") == marked("lion", "lioness") == []
    assert marked("élan", "Élan vital") == ["Élan"]
    assert [page.evaluate(call, ["ordinal", [n]]) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th")
    ]
    shown = [page.evaluate(call, ["probability", [p]]) for p in (0, 1e-9, 0.005, 0.5, 0.995, 0.9999, 1)]
    assert shown == ["0.00", "< 0.01", "0.01", "0.50", "0.99", "> 0.99", "1.00"]
    documents = page.evaluate(call, ["documentsOf", ["# T\r\na\r\nb\r\n\r\n\r\n \n c \n\n#\nd\n\n#1 hit\ne"]])
    assert documents == [
        *({"title": "T", "text": "a\r\nb"}, {"title": "", "text": "c"}, {"title": "", "text": "d"}),
        {"title": "", "text": "#1 hit\ne"},
    ]
    long = "word " * 200
    start, end = page.evaluate(call, ["windowOf", [long, [500, 504]]])
    assert start <= 500 and end >= 504 and end - start < 240 and long[end] == " "
    for unspaced in (
        "漢字" * 500,
        "x" + "😀" * 500,
        "e\u0301" * 500,
    ):  # cut between characters, not far behind
        units = unspaced.encode("utf-16-le")
        start, end = page.evaluate(call, ["windowOf", [unspaced, [500, 502]]])
        assert start <= 500 and end >= 502 and end - start < 240
        shown = units[2 * start : 2 * end].decode("utf-16-le")  # raises within a surrogate pair
        assert shown[0] in "漢字😀e"
