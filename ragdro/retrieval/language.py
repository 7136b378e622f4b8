"""Which language's stemmer and stop words BM25 takes: by key, or by the corpus's most frequent words.

Detection counts, in a sample of the corpus, how many words are function words of each language; the
language with most of them is taken. Chinese, Japanese, Thai and the like have no endings to cut: in their
corpora, too, only the words of other scripts are counted and stemmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import Stemmer

from ragdro.config.retriever import AUTO, Bm25Settings
from ragdro.errors import RetrievalError
from ragdro.retrieval.bm25_library import Tokenizer
from ragdro.retrieval.words import stem_spaced, words
from ragdro.unspaced import is_unspaced

DEFAULT = "english"
LEAST_SHARE = 0.05
"""Of the sampled words, those that have to be function words of a language: in running text a quarter are."""
LEAST_DIFFERENT = 3
"""How many different ones there have to be: the English noun `dog` is a function word in Danish."""

_SINGLE = ("i",)
"""Of English, whose list at bm25s is made for words of two letters and more."""

_LISTED = (
    *(DEFAULT, "german", "dutch", "french", "spanish", "portuguese", "italian", "russian"),
    *("swedish", "norwegian", "danish", "turkish"),
)
"""Languages with a stemmer and a stop-word list of bm25s; of equal counts the first is taken."""

_FUNCTION_WORDS = {
    "arabic": "في من على أن إلى عن التي الذي هذا هذه مع كان",
    "persian": "در به از که این است را با آن برای",
    "hindi": "के में है की से का और को पर यह",
    "greek": "και το της του η την με να στην από",
    "polish": "w na z i się do nie jest oraz że",
    "czech": "v na a se je že do byl která jako",
    "finnish": "ja on oli että joka sekä hän ovat",
    "hungarian": "a az és egy hogy nem is volt",
    "romanian": "și în de la cu din este pe care",
    "indonesian": "yang dan di dari dengan untuk pada adalah",
}
"""Languages with a stemmer alone, by a few of their most frequent words."""


@dataclass(frozen=True, slots=True)
class WordRules:
    """What is done to words: `stopwords` are dropped, the others are stemmed."""

    stopwords: frozenset[str]
    stem: Callable[[str], str]

    def tokenizer(self) -> Tokenizer:
        """bm25s' tokenizer by these rules."""
        return Tokenizer(lower=False, splitter=words, stopwords=sorted(self.stopwords), stemmer=self.stem)

    def of(self, text: str) -> list[str]:
        """The stems of a text, in order, with repeats."""
        return [self.stem(word) for word in words(text) if word not in self.stopwords]


def detect(texts: Iterable[str]) -> str:
    """The language of most of the texts' function words; English where they are too few to tell."""
    languages = {name: frozenset(stopword_list(name)) for name in _LISTED}
    languages |= {name: frozenset(listed.split()) for name, listed in _FUNCTION_WORDS.items()}
    counts = Counter(word for text in texts for word in words(text) if not is_unspaced(word))
    shares = {name: sum(counts[word] for word in listed) for name, listed in languages.items()}
    best = max(shares, key=shares.__getitem__)
    different = sum(word in counts for word in languages[best])
    enough = different >= LEAST_DIFFERENT and shares[best] > LEAST_SHARE * counts.total()
    return best if enough else DEFAULT


def word_rules(settings: Bm25Settings, language: str) -> WordRules:
    """The rules of the settings, `language` standing for 'auto'; RetrievalError names what does not exist."""
    stemmed, listed = _has_stemmer(language), _has_list(language)
    if AUTO in (settings.stemmer, settings.stopwords) and not stemmed and not listed:
        known = ", ".join(Stemmer.algorithms())
        raise RetrievalError(
            f"retriever.language: neither a stemmer nor stop words for {language!r}; there are {known}"
        )
    stemmer = (language if stemmed else None) if settings.stemmer == AUTO else settings.stemmer
    stopwords = (language if listed else None) if settings.stopwords == AUTO else settings.stopwords
    return WordRules(
        frozenset() if stopwords is None else frozenset(stopword_list(stopwords)),
        str if stemmer is None else stem_spaced(_snowball(stemmer)),
    )


def stopword_list(language: str) -> Sequence[str]:
    """bm25s' list of a language, with `i` for English; RetrievalError where it has none."""
    try:
        listed: Sequence[str] = Tokenizer(stopwords=language).stopwords
    except ValueError as error:
        raise RetrievalError(f"retriever.stopwords: bm25s has no list for {language!r}") from error
    return (*listed, *_SINGLE) if language in (DEFAULT, "en") else listed


def _snowball(language: str) -> Callable[[str], str]:
    try:
        stem: Callable[[str], str] = Stemmer.Stemmer(language).stemWord
    except KeyError as error:
        known = ", ".join(Stemmer.algorithms())
        raise RetrievalError(f"retriever.stemmer: no {language!r}; there are {known}") from error
    return stem


def _has_stemmer(language: str) -> bool:
    try:
        Stemmer.Stemmer(language)
    except KeyError:
        return False
    return True


def _has_list(language: str) -> bool:
    try:
        Tokenizer(stopwords=language)
    except ValueError:
        return False
    return True
