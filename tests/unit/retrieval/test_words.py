"""What a word is, in each script, and which language's rules are taken."""

from __future__ import annotations

from pathlib import Path

import bm25s
import pytest
import Stemmer

from ragdro.config.retriever import Bm25Settings
from ragdro.retrieval.bm25 import Bm25Retriever
from ragdro.retrieval.language import detect, word_rules
from ragdro.retrieval.words import words
from ragdro.types import Passage, Question
from tests.unit.retrieval.conftest import generated_corpus


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What does vitamin K do?", ["what", "does", "vitamin", "k", "do"]),
        ("Don't, it’s John's; they'll 'n' I", ["don", "it", "john", "they", "ll", "n", "i"]),
        ("C++11, C# and F#; anchor page#top", ["c++", "11", "c#", "and", "f#", "anchor", "page", "top"]),
        ("snake_case 3.14 1,000", ["snake_case", "3", "14", "1", "000"]),
        ("Cafe\u0301 Müller", ["café", "müller"]),
        ("İstanbul ISTANBUL", ["istanbul", "istanbul"]),
        ("ＡＢＣ１２", ["abc12"]),
        ("co\u00adoperate", ["cooperate"]),
        ("Москва\u0301 ёж", ["москва", "ёж"]),
        ("عَاصِمَة", ["عاصمة"]),
        ("שָׁלוֹם", ["שלום"]),
        ("फ्रांस की राजधानी", ["फ्रांस", "की", "राजधानी"]),
        ("日本の首都", ["日本", "本の", "の首", "首都", "日", "本", "首", "都"]),
        ("ﾄｳｷｮｳタワー", ["トウ", "ウキ", "キョ", "ョウ", "ウタ", "タワ", "ワー"]),
        ("iPhone的价格", ["iphone", "的价", "价格", "的", "价", "格"]),
        ("猫", ["猫"]),
        ("서울은 물", ["서울", "울은", "물"]),
        ("น้ำ", ["น้ํา"]),  # one character with its vowel and tone; NFKC takes SARA AM apart
        ("ปลากิน", ["ปล", "ลา", "ากิ", "กิน"]),
        ("", []),
        ("?! …", []),
    ],
)
def test_words_by_hand(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_english_words_are_those_of_bm25s_and_single_ones() -> None:
    text = (
        " ".join(f"{p.title} {p.text}" for p in generated_corpus(50)) + " Zoë's naïve co-op – “quoted” 1990s"
    )
    listed = bm25s.tokenize(text, stopwords=None, return_ids=False, show_progress=False)[0]
    assert [word for word in words(text) if len(word) > 1] == listed


SENTENCES = {
    "english": "The castle on the hill was built for the king and it is one of the oldest in the country",
    "german": "Das Schloss auf dem Berg wurde für den König gebaut und ist eines der ältesten in dem Land",
    "french": "Le château sur la colline a été construit pour le roi et il est un des plus vieux du pays",
    "spanish": "El castillo en la colina fue construido para el rey y es uno de los más viejos del país",
    "russian": "Замок на холме был построен для короля и он один из самых старых в стране",
    "swedish": "Slottet på kullen är byggt för kungen och det är ett av de äldsta som finns i landet",
    "arabic": "بني القصر على التل من أجل الملك في القرن الماضي",
    "hindi": "पहाड़ी पर महल राजा के लिए बनाया गया था और यह देश का सबसे पुराना है",
    "polish": "Zamek na wzgórzu był zbudowany w średniowieczu i nie jest to jedyny w kraju",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_the_language_is_that_of_the_function_words(language: str) -> None:
    assert detect([SENTENCES[language], "日本の首都は東京です"]) == language


def test_without_function_words_it_is_english() -> None:
    assert detect(["dog dog dog bird cat"]) == "english"  # `dog` alone is a Danish function word
    assert detect([]) == detect(["river bridge castle"]) == detect(["日本の首都は東京です"]) == "english"


def test_a_corpus_s_own_language_is_stemmed_and_kept(tmp_path: Path) -> None:
    corpus = [
        Passage(str(i), "", f"{SENTENCES['german']} {word}") for i, word in enumerate(("Hunden", "Katzen"))
    ]
    retriever = Bm25Retriever(Bm25Settings())
    retriever.build(corpus, tmp_path / "index")
    retriever.open(tmp_path / "index")
    (candidates,) = retriever.search([Question("q", "Katze und der", ())], 2)
    stem = Stemmer.Stemmer("german").stemWord
    assert stem("katzen") == stem("katze") and [p.id for p in candidates.passages] == ["1", "0"]
    assert candidates.scores is not None and candidates.scores[1] == 0  # `und` and `der` are stop words
    named = Bm25Retriever(Bm25Settings(language="english"))
    named.build(corpus, tmp_path / "named")
    named.open(tmp_path / "named")
    (candidates,) = named.search([Question("q", "Katze", ())], 2)
    assert candidates.scores == (0, 0)


def test_languages_with_a_stemmer_or_a_list_alone() -> None:
    assert not word_rules(Bm25Settings(), "hindi").stopwords
    chinese = word_rules(Bm25Settings(), "chinese")
    assert chinese.stopwords and chinese.of("running") == ["running"]
    assert word_rules(Bm25Settings(stemmer="english"), "chinese").of("running") == ["run"]
    assert word_rules(Bm25Settings(), "english").of("I was running, the dog is") == ["run", "dog"]
