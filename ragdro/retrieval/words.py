"""What BM25 takes for a word: one rule for passages and questions, in every script.

In: a text. Out: its words, in order, in lower case, with repeats:

- letters, digits and the marks that belong to them stay together, after Unicode's NFKC: `é` is one letter
  however it is written, and full-width letters are letters;
- a single letter or digit is a word (vitamin K, Apollo 8), except after an apostrophe (`don't`, `it's`);
  `c++` and `c#` are words;
- marks that writers leave out are left out: Arabic and Hebrew vowel marks, Cyrillic stress marks;
- where words are not set apart (Chinese, Japanese, Thai, Lao, Khmer, Burmese) or are glued to particles
  (Korean), each two neighbouring characters are a word, and each Chinese character is one as well. For
  Chinese, pairs together with single characters find as well as segmented words do (Nie, Gao, Zhang &
  Zhou 2000), and they need no dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from unicodedata import normalize

import regex

from ragdro.unspaced import UNSPACED, is_unspaced

_WORD = r"(?:(?<!\w['’])|(?=\w\w))\w+(?:\+\+|#(?!\w))?"
_PLAIN_WORD = re.compile(_WORD)
_MARKED_WORD = regex.compile(_WORD)  # its \w takes in combining marks, which that of `re` does not
_NOT_PLAIN = re.compile("[\u00ad\u0300-\u036f\u0590-\u1dff\u200b-\u200f\u2c80-\ua71f\ua800-\U0010ffff]")
"""What `_PLAIN_WORD` alone would cut wrongly; without it, a text is Latin, Greek or Cyrillic letters."""

_OPTIONAL = regex.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"  # Arabic
    "\u0730-\u074a\u00ad\u200d]"  # Syriac points, soft hyphen, joiner
    "|(?<=[\u0400-\u04ff])[\u0300\u0301]|(?<=i)\u0307"  # Cyrillic stress; what lower() leaves of a dotted I
)
_PIECES = regex.compile(rf"((?:{UNSPACED}\p{{M}}*)+)|((?:(?!{UNSPACED}).)+)")
_CHARACTER = regex.compile(r"\X")
_IDEOGRAPH = regex.compile(r"\p{Han}")


def words(text: str) -> list[str]:
    """The words of a text, in order, in lower case; empty where it holds none."""
    if text.isascii():
        return _PLAIN_WORD.findall(text.lower())
    text = normalize("NFKC", text).lower()
    if not _NOT_PLAIN.search(text):
        return _PLAIN_WORD.findall(text)
    terms: list[str] = []
    for word in _MARKED_WORD.findall(_OPTIONAL.sub("", text)):
        if is_unspaced(word):
            terms += _of_unspaced(word)
        else:
            terms.append(word)
    return terms


def _of_unspaced(word: str) -> list[str]:
    terms: list[str] = []
    for run, other in _PIECES.findall(word):
        if other:
            terms.append(other)
            continue
        characters = _CHARACTER.findall(run)
        if len(characters) == 1:
            terms += characters
            continue
        terms += [first + second for first, second in pairwise(characters)]
        terms += [character for character in characters if _IDEOGRAPH.match(character)]
    return terms


def stem_spaced(stem: Callable[[str], str]) -> Callable[[str], str]:
    """The stemmer for words, with pairs of characters left as they are: they have no endings."""
    return lambda word: word if is_unspaced(word) else stem(word)
