// Words: passages that a person pasted, and where an answer stands in a text. No document, no network.

const LONG_WORD = 40;
const ARTICLES = new Set(["a", "an", "the"]);

/** Pasted text as documents: an empty line parts two, a first line "# ..." is a title. */
export function documentsOf(pasted) {
  return pasted
    .split(/\r?\n[^\S\n]*\r?\n/)
    .map((block) => block.trim())
    .filter(Boolean)
    .map((block) => {
      const titled = block.match(/^#(?:[^\S\n]+([^\n]*))?(?:\n([^]*))?$/);
      return titled
        ? { title: (titled[1] ?? "").trim(), text: (titled[2] ?? "").trim() }
        : { title: "", text: block };
    });
}

/** The words of a text without case and articles, each with its place. */
function words(text, pattern, kept) {
  const found = [];
  for (const { 0: whole, index } of text.matchAll(pattern)) {
    const word = kept(whole).normalize("NFKC").toLowerCase();
    if (word && !ARTICLES.has(word)) found.push({ word, start: index, end: index + whole.length });
  }
  return found;
}

/** Two ways to read marks: they part words ("sea-lion"), or, as in the metric, they are not there ("U.S."). */
const WAYS = [
  (text) => words(text, /[\p{L}\p{M}\p{N}]+/gu, (whole) => whole),
  (text) => words(text, /[\p{L}\p{M}\p{N}](\S*[\p{L}\p{M}\p{N}])?/gu, (whole) => whole.replace(/[\p{P}\p{S}]/gu, "")),
];

/** [start, end] of every place where the answer stands in the text, from left to right, none in another. */
export function placesOf(answer, text) {
  for (const read of WAYS) {
    const places = runsOf(read(answer), read(text));
    if (places.length) return places;
  }
  return [];
}

function runsOf(wanted, all) {
  const runs = [];
  for (let at = 0; wanted.length && at + wanted.length <= all.length; ) {
    const same = wanted.every(({ word }, i) => all[at + i].word === word);
    if (same) runs.push([all[at].start, all[at + wanted.length - 1].end]);
    at += same ? wanted.length : 1;
  }
  return runs;
}

/** [start, end] of what is shown of a long text: a window of words around `place` (null: its beginning). */
export function windowOf(text, place, size = 220) {
  if (text.length <= size) return [0, text.length];
  const middle = place ? (place[0] + place[1]) / 2 : 0;
  const first = Math.max(0, Math.min(Math.round(middle - size / 2), text.length - size));
  return [first === 0 ? 0 : edgeFrom(text, first), edgeFrom(text, first + size)];
}

/** Where a word ends from `start` on; a character, where none does so soon, as in languages without spaces. */
function edgeFrom(text, start) {
  const space = text.slice(start, start + LONG_WORD).search(/\s|$/);
  if (space < LONG_WORD) return start + space;
  return start + text.slice(start).match(/^[\p{M}\p{Cs}\u200d]*/u)[0].length;
}

/** 1st, 2nd, 3rd, 4th, 11th, 21st ... */
export function ordinal(number) {
  const teen = number % 100 >= 11 && number % 100 <= 13;
  return number + (teen ? "th" : ({ 1: "st", 2: "nd", 3: "rd" }[number % 10] ?? "th"));
}

/** A retriever's score with four digits that count: one fuses ranks to 0.01639, another says 23.4. */
export const shownScore = (score) => String(Number(score.toPrecision(4)));

/** A probability with two digits that never says 0 or 1 where it is neither. */
export function probability(p) {
  if (p > 0.995 && p < 1) return "> 0.99";
  if (p > 0 && p < 0.005) return "< 0.01";
  return p.toFixed(2);
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
