"""Passages tile the text, keep to the budget and have ids that stay."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from ragdro.errors import ConfigError, DataError, ModelError
from ragdro.ingest.cut import Cutter, count_words, token_counter, tokenizer_description
from ragdro.ingest.document import Document, Heading, ReadOptions, Remarks
from ragdro.ingest.text import read_markdown

texts = st.text(alphabet="ab .,\n#-`日é\u2028\t|*>1", max_size=300)


def cut(document: Document, tokens: int, overlap: int = 0, path: str = "folder/file.txt") -> list:
    return list(Cutter(tokens, overlap).passages(document, path))


@settings(max_examples=300, deadline=None)
@given(texts, st.integers(1, 12), st.booleans(), st.sets(st.integers(0, 299), max_size=4))
def test_without_overlap_the_passages_are_the_text(
    text: str, tokens: int, markdown: bool, starts: set[int]
) -> None:
    places = sorted(start for start in starts if start < len(text))
    ends = [*places[1:], len(text)]
    headings = tuple(
        Heading(start, min(start + 5, end), 1 + start % 3, f"h{start}")
        for start, end in zip(places, ends, strict=False)
    )
    document = Document(text, headings=headings, markdown=markdown)
    passages = cut(document, tokens)
    if not text.strip():
        assert passages == []
        return
    assert "".join(passage.text for passage in passages) == text
    assert len({passage.id for passage in passages}) == len(passages)
    for passage in passages:
        assert passage.source is not None
        assert passage.text.strip()
        assert text[passage.source.start : passage.source.end] == passage.text
        assert count_words(passage.text) <= tokens


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["one", "two.", "three", "four!", "\n\n"]), min_size=1, max_size=80))
def test_overlap_repeats_and_loses_nothing(words: list[str]) -> None:
    text = " ".join(words)
    if not text.strip():
        return
    passages = cut(Document(text), 8, overlap=3)
    spans = [(p.source.start, p.source.end) for p in passages if p.source is not None]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start < next_start <= end < next_end
        assert count_words(text[next_start:end]) <= 3
    assert all(count_words(p.text) <= 8 for p in passages)


def test_overlap_does_repeat() -> None:
    text = " ".join(f"word{i}" for i in range(40))
    first, second, *_ = cut(Document(text), 10, overlap=4)
    assert first.text.split()[-4:] == second.text.split()[:4]


def test_words() -> None:
    assert count_words("") == count_words(" \n ") == 0
    assert count_words("three short words") == 3
    assert count_words("x" * 16) == 1
    assert count_words("x" * 17) == 2
    assert count_words("é" * 33 + " a") == 4
    assert count_words("日本 ab") == 3


def markdown(text: str, tmp_path: Path) -> list:
    path = tmp_path / "a.md"
    path.write_text(text)
    (document,) = read_markdown(path, ReadOptions(), Remarks())
    return cut(document, 20, path="a.md")


def test_titles_say_document_and_section(tmp_path: Path) -> None:
    passages = markdown("# Doc\nintro\n\n## Setup\n\n### Linux\nmake\n\n## Use\nrun\n", tmp_path)
    assert [p.title for p in passages] == ["Doc", "Doc > Setup > Linux", "Doc > Use"]
    assert passages[1].text == "## Setup\n\n### Linux\nmake\n\n"


def test_a_heading_stays_with_its_text(tmp_path: Path) -> None:
    sentences = "".join(f"This is sentence number {i} of many. " for i in range(9))
    passages = markdown(f"## Heading words\n\n{sentences}", tmp_path)
    assert len(passages) > 2
    assert passages[0].text.startswith("## Heading words\n\nThis is sentence number 0")
    assert all(count_words(p.text) <= 20 for p in passages)


def test_front_matter_is_the_title_and_no_text(tmp_path: Path) -> None:
    (yaml,) = markdown("---\ntitle: 'A: B'\ntags: [x]\n---\nBody.\n", tmp_path)
    assert (yaml.title, yaml.text) == ("A: B", "Body.\n")
    assert yaml.source is not None and yaml.source.start == len("---\ntitle: 'A: B'\ntags: [x]\n---\n")
    (toml,) = markdown('+++\ntitle = "T"\n+++\nBody.\n', tmp_path)
    assert (toml.title, toml.text) == ("T", "Body.\n")
    rules = "---\nnot: [closed\n---\nBody.\n"
    assert "".join(p.text for p in markdown(rules, tmp_path)) == rules


def test_code_makes_no_heading(tmp_path: Path) -> None:
    (passage,) = markdown("text\n```\n# no\n```\n> # no\n\n    # no\n", tmp_path)
    assert passage.title == "a"


def test_ids_depend_on_what_is_in_the_document_alone() -> None:
    before = cut(Document("Same words here.\n\nOther words here.\n\nSame words here.\n\n"), 3)
    after = cut(
        Document("New words come.\n\nSame words here.\n\nOther words here.\n\nSame words here.\n\n"), 3
    )
    assert before[0].text == before[2].text and before[0].id != before[2].id
    assert [p.id for p in before] == [p.id for p in after[1:]]
    elsewhere = cut(Document("Same words here.\n\n"), 3, path="other.txt")
    assert elsewhere[0].id not in {p.id for p in before}
    rows = [cut(Document("equal", row=row), 3)[0].id for row in (1, 2)]
    assert rows[0] != rows[1]


def test_a_tokenizers_tokens(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # a token a character
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    described = tokenizer_description(str(tmp_path))
    count = token_counter(described)
    assert count("abcdefgh") == 8
    passages = list(Cutter(10, count=count).passages(Document("abcd efgh ijkl mnop"), "a.txt"))
    assert [p.text for p in passages] == ["abcd efgh ", "ijkl mnop"]
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="tokenizer"):
        tokenizer_description(str(tmp_path))
    with pytest.raises(
        ModelError, match=r"nowhere: no such checkpoint folder; .*; give one with a tokenizer.json"
    ):
        tokenizer_description(str(tmp_path / "nowhere"))


def test_a_long_line_takes_time_in_proportion() -> None:
    calls = [0, 0]

    def counting(which: int):  # noqa: ANN202
        def count(text: str) -> int:
            calls[which] += len(text)
            return count_words(text)

        return count

    for which, length in enumerate((2_000, 20_000)):
        list(Cutter(50, count=counting(which)).passages(Document("word " * length), "a.txt"))
    assert calls[1] < 20 * calls[0]


@pytest.mark.parametrize(("tokens", "overlap"), [(0, 0), (5, 5), (5, -1)])
def test_budgets_that_cannot_be(tokens: int, overlap: int) -> None:
    with pytest.raises(ConfigError, match=r"--tokens|--overlap"):
        Cutter(tokens, overlap)
