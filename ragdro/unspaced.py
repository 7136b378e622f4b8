"""Scripts that set no spaces between words, so that where a word ends is not in the text.

Chinese, Japanese, Thai, Lao, Khmer and Burmese; Korean as well, whose words are glued to particles.
"""

from __future__ import annotations

import unicodedata

import regex

UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Hangul}\p{Line_Break=Complex_Context}]"
"""One character of such a script, as a pattern of the `regex` package."""

_ANY = regex.compile(UNSPACED)
_EACH = regex.compile(rf"{UNSPACED}\p{{M}}*")


def is_unspaced(word: str) -> bool:
    """Whether a word has characters of a script that sets no spaces between words, or of Korean."""
    return _ANY.search(word) is not None


def set_apart(text: str) -> str:
    """`text` with a space on both sides of each character of such a script, its marks included.

    So an answer is found inside of a sentence that has no spaces: 北京 in 北京是中国的首都. Other text is
    returned as it is; text with such characters is in NFC.
    """
    if text.isascii() or not is_unspaced(text):
        return text
    spaced: str = _EACH.sub(r" \g<0> ", unicodedata.normalize("NFC", text))
    return spaced
