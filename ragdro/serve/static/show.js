// Answers, candidates and examples as elements. Text of data and models only ever becomes text nodes.

import { ordinal, placesOf, plural, probability, shownScore, windowOf } from "./text.js";

export const LABELS = { vanilla: "vanilla RAG", "warm-up": "warm-up", best: "best" };
const labelOf = (stage) => LABELS[stage] ?? stage.replace("-", " ");

/** An element with attributes; `inner` are strings and elements, null is left out. */
export function el(tag, attributes = {}, ...inner) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inner.filter((part) => part !== null));
  return made;
}

/** The text with every place of the answer marked, between `start` and `end`. */
function marked(text, places, [start, end] = [0, text.length]) {
  const parts = [start > 0 ? "… " : ""];
  let at = start;
  for (const [from, to] of places) {
    if (from < at || to > end) continue;
    parts.push(text.slice(at, from), el("mark", {}, text.slice(from, to)));
    at = to;
  }
  return el("span", { dir: "auto" }, ...parts, text.slice(at, end), end < text.length ? " …" : "");
}

function passageOf(passage, answer, { whole = true } = {}) {
  const places = placesOf(answer, passage.text);
  const range = whole ? [0, passage.text.length] : windowOf(passage.text, places[0] ?? null);
  const text = el("p", { class: "text" }, marked(passage.text, places, range));
  const title = passage.title
    ? el("p", { class: "title" }, marked(passage.title, placesOf(answer, passage.title)))
    : null;
  return el("div", { class: "passage" }, title, text);
}

const FIRST = ["", "", " two", " three", " four", " five", " six", " seven", " eight", " nine"];

/** "chosen 2nd with probability 0.97, given the first". */
function chosenLine(place, p, kind) {
  if (kind === "inclusion") return `read ${ordinal(place)}`; // of a union: no list of its own was written
  const given = kind === "first_choice" || place === 1 ? "" : `, given the first${FIRST[place - 1] ?? ` ${place - 1}`}`;
  return `chosen ${ordinal(place)} with probability ${probability(p)}${given}`;
}

/** "retrieved 7th, score 3.43", or "7th of those given" for a passage that has no score. */
function retrievedLine(result, entry) {
  const { score } = result.candidates[found(entry) - 1];
  const rank = ordinal(found(entry));
  return score === null ? `${rank} of those given` : `retrieved ${rank}, score ${shownScore(score)}`;
}

function bar(value) {
  const made = el("span", { class: "bar", "aria-hidden": "true" });
  made.style.setProperty("--part", `${100 * value}%`);
  return made;
}

const found = (entry) => entry.rank_in_candidates;
const inList = (result, entry) => result.candidates[found(entry) - 1].inclusion ?? null;
const shownAnswer = (answer) =>
  answer.trim() ? el("span", { dir: "auto" }, answer) : el("i", {}, "(an empty answer)");

/** What was written before the answer, where a thought comes first. */
function thoughtOf(result) {
  if (result.thought === undefined) return null;
  const text = el("span", { dir: "auto" }, result.thought.trim() || "(nothing)");
  return el("p", { class: "thought" }, el("span", { class: "dim" }, "Thought: "), text);
}

const NO_ANSWER = "no answer";
/** The answer as it is said; below the server's threshold of confidence there is none. */
export const spoken = (result) => (result.abstained ? NO_ANSWER : result.answer);
const saidOf = (result) => (result.abstained ? el("i", {}, NO_ANSWER) : shownAnswer(result.answer));

/** Of a marginal answer: what else the lists lead to, with probabilities. */
function competing(result) {
  if (!(result.competing?.length > 1 || result.abstained)) return null;
  const rows = result.competing.map((one) =>
    el("li", {}, bar(one.probability), ` ${probability(one.probability)} `, shownAnswer(one.answer)));
  const summary = el("summary", {}, plural(result.competing.length, "answer that competes", "answers that compete"));
  const open = result.abstained ? { open: "" } : {};
  return el("details", { class: "competing", ...open }, summary, el("ol", { class: "plain" }, ...rows));
}

function certainty(result) {
  const facts = [];
  const several = result.confidence !== undefined;
  if (several) {
    const thoughts = result.thoughts ? `, ${plural(result.thoughts, "thought")} each` : "";
    const lists = plural(result.lists, result.exact ? "possible list" : "drawn list") + thoughts;
    const threshold = result.abstained ? ", below the server’s threshold" : "";
    facts.push(`confidence ${probability(result.confidence)} over ${lists}${threshold}`);
  } else if (result.log_probability !== null) {
    facts.push(`the generator gives it probability ${probability(Math.exp(result.log_probability))}`);
  }
  if (!several && result.agreement !== null) {
    const same = Math.round(result.agreement * result.samples);
    facts.push(`same answer from ${same} of ${plural(result.samples, "drawn list")}`);
  }
  return el("ul", { class: "facts" }, ...facts.map((fact) => el("li", {}, fact)));
}

function where(result) {
  const holds = (entry) => placesOf(result.answer, `${entry.title}\n${entry.text}`).length > 0;
  const places = result.selection.flatMap((entry, i) => (holds(entry) ? [i + 1] : []));
  if (!result.answer.trim()) return null;
  const line = places.length
    ? `It stands in passage${places.length > 1 ? "s" : ""} ${places.join(", ").replace(/, (\d+)$/, " and $1")}.`
    : "It stands in none of these passages word for word.";
  return el("p", { class: "dim" }, line);
}

/** What holds for the whole list: that nothing was selected, or that there was a tournament. */
function listNote(result, system) {
  const rounds = !result.path && result.candidates.length > system.candidates;
  const line = result.selection.every((entry) => entry.probability === null)
    ? "Nothing is selected: the first ones are read."
    : `More passages than the ${system.candidates} that the selector reads at once: a tournament. The probabilities are those of its last round.`;
  return rounds || result.selection[0]?.probability === null ? el("p", { class: "dim note" }, line) : null;
}

function readItem(result, entry, index, system, whole, place = index + 1, line = retrievedLine(result, entry)) {
  const facts = [];
  if (entry.probability !== null) {
    facts.push(el("li", {}, chosenLine(place, entry.probability, result.probability_of)));
  }
  const included = inList(result, entry) ?? (result.probability_of === "inclusion" ? entry.probability : null);
  if (included !== null) {
    facts.push(el("li", {}, `in the list: ${probability(included)} `, bar(included)));
  }
  facts.push(el("li", {}, line));
  const body = el("div", {}, passageOf(entry, result.answer, { whole }), el("ul", { class: "facts" }, ...facts));
  return el("li", {}, el("span", { class: "place", "aria-hidden": "true" }, String(index + 1)), body);
}

const scoreOf = (round, rank) => round.scores?.[rank - 1] ?? null;

/** A round of a path: its query, what was selected of what it found, the others of that. `first`: how many
 * passages the rounds before have selected. */
function roundOf(result, number, first, system, whole) {
  const round = result.path[number - 1];
  const notes = round.log_query !== null ? [`written with probability ${probability(Math.exp(round.log_query))}`] : [];
  if (!round.found.length) notes.push("the path ends here");
  const note = notes.length ? el("span", { class: "dim" }, ` (${notes.join("; ")})`) : null;
  const query = el("b", { dir: "auto" }, round.query.trim() || "(nothing)");
  const items = round.selected.map((at, i) => {
    const rank = round.found.indexOf(at) + 1;
    const score = scoreOf(round, rank);
    const line = `${ordinal(rank)} of ${round.found.length} found${score === null ? "" : `, score ${shownScore(score)}`}`;
    return readItem(result, result.selection[first + i], first + i, system, whole, i + 1, line);
  });
  const others = round.titles.flatMap((title, i) => {
    const score = scoreOf(round, i + 1);
    const shown = `[${i + 1}] ${title}${score === null ? "" : ` ${shownScore(score)}`}`;
    return round.selected.includes(round.found[i]) ? [] : [shown];
  });
  return el(
    "section",
    { class: "round" },
    el("p", { class: "asked" }, `round ${number}: `, query, note),
    items.length ? el("ol", { class: "read" }, ...items) : null,
    others.length ? el("p", { class: "dim note", dir: "auto" }, `found too: ${others.join("; ")}`) : null,
  );
}

function pathOf(result, system, whole) {
  let read = 0;
  const rounds = result.path.map((round, i) => {
    const made = roundOf(result, i + 1, read, system, whole);
    read += round.selected.length;
    return made;
  });
  return el("div", {}, ...rounds);
}

function readList(result, system, whole) {
  if (result.path) return pathOf(result, system, whole);
  const items = result.selection.map((entry, i) => readItem(result, entry, i, system, whole));
  return el("ol", { class: "read" }, ...items);
}

/** One stage's answer with the passages that it was read from. */
export function oneAnswer(result, system) {
  const read = plural(result.selection.length, "passage");
  return el(
    "div",
    {},
    el(
      "div",
      { class: "card answer" },
      el("p", { class: "question", dir: "auto" }, result.question),
      el("p", { class: "said" }, saidOf(result)),
      thoughtOf(result),
      certainty(result),
      competing(result),
      where(result),
    ),
    el("h3", {}, `Answered from ${read}`),
    el("div", { class: "card" }, listNote(result, system), readList(result, system, true)),
  );
}

/** Several stages' answers, a column each. */
export function sideBySide(results, system) {
  const columns = results.map((result) => {
    const name = el("h3", {}, labelOf(result.stage));
    const said = el("p", { class: "said" }, saidOf(result));
    const parts = [name, said, thoughtOf(result), certainty(result), competing(result), where(result), listNote(result, system)];
    return el("section", { class: "card answer", "aria-label": labelOf(result.stage) }, ...parts, readList(result, system, false));
  });
  const question = el("p", { class: "question", dir: "auto" }, results[0].question);
  return el("div", {}, question, el("div", { class: "columns" }, ...columns));
}

function fact(name, value, extra = null) {
  return el("span", { class: "cell" }, el("span", { class: "cell-name" }, `${name} `), value, extra);
}

/** All candidates in the retriever's order, and what each stage made of them. */
export function candidateList(results) {
  const several = results.length > 1;
  const scored = results[0].candidates.some((c) => c.score !== null);
  const items = results[0].candidates.map((candidate, i) => {
    const cells = scored ? [fact("score", candidate.score === null ? "–" : shownScore(candidate.score))] : [];
    let isRead = false;
    for (const result of results) {
      const is = result.path ? (entry) => entry.id === candidate.id : (entry) => found(entry) === i + 1;
      const at = result.selection.findIndex(is);
      isRead ||= at >= 0;
      const p = at < 0 ? null : result.selection[at].probability;
      const likely = p === null || result.probability_of === "inclusion" ? null : el("span", { class: "p dim" }, `p ${probability(p)}`);
      cells.push(fact(several ? labelOf(result.stage) : "chosen", at < 0 ? "–" : ordinal(at + 1), likely));
      const included = several ? undefined : result.candidates[i].inclusion;
      if (included !== undefined) cells.push(fact("in the list", probability(included), bar(included)));
    }
    const rank = el("span", { class: "rank" }, String(i + 1));
    const body = el("div", {}, passageOf(candidate, several ? "" : results[0].answer));
    return el("li", { class: isRead ? "is-read" : "" }, rank, body, el("div", { class: "cells" }, ...cells));
  });
  const list = el("ol", { class: "candidates" }, ...items);
  const names = [...list.querySelectorAll("li:first-child .cell-name")].map((name) => name.textContent);
  const cells = names.map((name) => el("span", { class: "cell" }, name));
  const head = el("div", { class: "head dim", "aria-hidden": "true" }, el("div", { class: "cells" }, ...cells));
  return el("div", { class: "card all" }, head, list);
}

function exampleSide(side) {
  const verdict = el("span", { class: side.right ? "good" : "bad" }, side.right ? "right" : "wrong");
  const stage = labelOf(side.stage);
  const head = el("p", {}, el("b", {}, `${stage}: `), shownAnswer(side.answer), " (", verdict, "), read from");
  const read = side.selection.map((entry) => {
    const p = entry.probability === null ? "" : `, ${probability(entry.probability)}`;
    const place = el("span", { class: "dim" }, `[candidate ${entry.rank_in_candidates}${p}] `);
    return el("li", {}, place, passageOf(entry, side.answer, { whole: false }));
  });
  return el("div", {}, head, el("ol", { class: "plain" }, ...read));
}

function exampleOf(example, onAsk) {
  const button = el("button", { type: "button" }, "Ask it now");
  button.addEventListener("click", () => onAsk(example.question));
  const arrow = el("span", { class: "change" }, shownAnswer(example.before.answer), " → ", shownAnswer(example.after.answer));
  return el(
    "details",
    {},
    el("summary", {}, el("span", { dir: "auto" }, example.question), " ", arrow),
    el("p", {}, "Gold answer: ", el("span", { dir: "auto" }, example.answers.join(" / ")), " ", button),
    el("div", { class: "columns" }, exampleSide(example.before), exampleSide(example.after)),
  );
}

/** The groups of examples; `onAsk` gets the question whose button is pressed. */
export function exampleGroups(found, onAsk) {
  return found.groups.filter((group) => group.count > 0).map((group) => {
    const more = group.count - group.examples.length;
    return el(
      "details",
      { class: "card group" },
      el("summary", {}, el("b", {}, group.title), ` (${group.count} of ${found.questions})`),
      ...group.examples.map((example) => exampleOf(example, onAsk)),
      more > 0 ? el("p", { class: "dim" }, `and ${more} more: see the predictions-….jsonl files of the run`) : null,
    );
  });
}
