// The page: what a person does, what is asked of the server, where the answer goes.

import { ask, forgetKey, hasKey, Problem, useKey } from "./server.js";
import { candidateList, el, exampleGroups, LABELS, oneAnswer, sideBySide, spoken } from "./show.js";
import { documentsOf, plural } from "./text.js";

const SIDE_BY_SIDE = "side by side";
const THEME = "ragdro-theme";
const SUGGESTIONS = 3;

const $ = (id) => document.getElementById(id);
let system = null;
let asking = null;

function tell(line) {
  $("error").textContent = line;
  $("error").hidden = !line;
}

/** A problem as one line; a key that is missing or wrong is asked for. */
function report(error) {
  if (!(error instanceof Problem)) throw error;
  if (error.status !== 401) {
    tell(error.message);
    return;
  }
  const tried = hasKey();
  forgetKey();
  tell(tried ? "The API key is wrong." : "");
  askForKey();
}

function askForKey() {
  $("key-form").hidden = false;
  $("forget").hidden = true;
  $("key").value = "";
  $("key").focus();
}

/** Whatever `work` does, with its problem reported. */
const guarded = (work) => async (event) => {
  event?.preventDefault();
  try {
    await work(event);
  } catch (error) {
    report(error);
  }
};

async function start() {
  system = await ask("/v1/system");
  tell("");
  $("key-form").hidden = true;
  $("forget").hidden = !hasKey();
  $("ask").hidden = false;
  $("model").textContent = system.model;
  document.title = `${system.model} – ragdro`;
  $("answering").value = system.answering;
  showStages();
  if (!system.searches) {
    $("corpus-choice").hidden = true;
    document.querySelector('[name=source][value="own"]').checked = true;
  }
  showSource();
  $("question").focus();
  if (system.examples) await showExamples();
}

function showStages() {
  const order = [...Object.keys(LABELS).filter((name) => system.stages.includes(name))];
  const names = [...order, ...system.stages.filter((name) => !order.includes(name))];
  const choices = names.map((name) => el("option", { value: name }, LABELS[name] ?? name));
  if (names.length > 1) choices.unshift(el("option", { value: SIDE_BY_SIDE }, "all, side by side"));
  $("stage").replaceChildren(...choices);
  $("stage-choice").hidden = names.length === 1;
  $("compare-hint").hidden = !(names.length === 1 && system.examples);
}

async function showExamples() {
  const found = await ask("/v1/examples");
  const askIt = (question) => {
    $("question").value = question;
    if (system.searches) document.querySelector('[name=source][value="corpus"]').checked = true;
    showSource();
    $("question").focus();
    $("ask").scrollIntoView();
    if (system.searches) $("ask").requestSubmit();
  };
  $("examples-groups").replaceChildren(...exampleGroups(found, askIt));
  const changed = found.groups.some((group) => group.count > 0);
  $("examples-intro").textContent = !changed ? "No answer changed from the warm-up on." :
    `Of the ${plural(found.questions, "question")} that this run reports on, those whose answer changed from the warm-up on.`;
  $("examples").hidden = false;
  if (!system.searches) return;
  const buttons = found.groups[0].examples.slice(0, SUGGESTIONS).map(({ question }) => {
    const button = el("button", { type: "button", dir: "auto" }, question);
    button.addEventListener("click", () => askIt(question));
    return button;
  });
  $("suggestions").replaceChildren(el("span", { class: "dim" }, "Try"), ...buttons);
  $("suggestions").hidden = buttons.length === 0;
}

const isOwn = () => document.querySelector("[name=source]:checked").value === "own";

function showSource() {
  $("own").hidden = !isOwn();
  $("passages").required = isOwn();
  const count = documentsOf($("passages").value).length;
  $("passages-count").textContent = count ? `${plural(count, "passage")} so far.` : "";
}

/** The bodies to post, one a stage. Raises `Problem` for what the server would not take. */
function bodies() {
  const stages = $("stage").value === SIDE_BY_SIDE
    ? Object.keys(LABELS).filter((name) => system.stages.includes(name))
    : [$("stage").value];
  const common = { question: $("question").value, inclusion: true, answering: $("answering").value };
  if (isOwn()) common.documents = documentsOf($("passages").value);
  if (common.documents?.length === 0) throw new Problem("Write a passage to answer from.", 0);
  if (common.documents?.length > system.max_documents) {
    throw new Problem(`${common.documents.length} passages are more than ${system.max_documents}, the most that this server takes.`, 0);
  }
  const texts = stages.map((stage) => JSON.stringify({ ...common, stage }));
  if (new TextEncoder().encode(texts[0]).length > system.max_body) {
    const limit = system.max_body < 2 ** 20
      ? `${Math.floor(system.max_body / 2 ** 10)} KiB`
      : `${(system.max_body / 2 ** 20).toFixed(1)} MiB`;
    throw new Problem(`The question and its passages are larger than ${limit}, the most that this server takes.`, 0);
  }
  return texts;
}

async function send() {
  tell("");
  const texts = bodies();
  asking?.abort();
  const mine = (asking = new AbortController());
  setBusy(true);
  try {
    const results = await Promise.all(texts.map((text) => ask("/v1/answer", text, mine.signal)));
    show(results);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  } finally {
    if (asking === mine) setBusy(false);
  }
}

function setBusy(busy) {
  $("busy").hidden = !busy;
  $("result").setAttribute("aria-busy", String(busy));
  if (busy) $("status").textContent = "Asking";
}

function show(results) {
  const made = results.length > 1 ? sideBySide(results, system) : oneAnswer(results[0], system);
  $("answers").replaceChildren(made);
  const count = results[0].candidates.length;
  $("candidates-title").textContent = count === 1 ? "The one candidate" : `All ${count} candidates`;
  $("candidates-note").textContent = noteOf(results);
  $("candidates").replaceChildren(candidateList(results));
  $("result").hidden = false;
  if ($("result").getBoundingClientRect().top > 0.7 * innerHeight) $("result").scrollIntoView();
  const said = results.map((result) => {
    const answer = spoken(result);
    return results.length > 1 ? `${LABELS[result.stage] ?? result.stage}: ${answer}` : answer;
  });
  $("status").textContent = `Answer: ${said.join("; ")}`;
}

/** In which order the candidates stand, and where their probabilities come from. */
function noteOf(results) {
  const scored = results[0].candidates.some((candidate) => candidate.score !== null);
  if (results[0].path) return "In the order in which they were found, round by round.";
  if (results.some((result) => result.path)) return "What the question itself finds; further rounds found more.";
  const order = scored ? "In the retriever’s order, best first." : "In the order in which they were given.";
  const inclusion = results.length > 1 ? null : results[0].inclusion;
  if (inclusion === null) return order;
  return inclusion.exact
    ? `${order} “In the list” is exact, from all lists that there are.`
    : `${order} “In the list” is the fraction of ${inclusion.lists} lists, drawn from the selector, that hold the passage.`;
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

$("theme").value = localStorage.getItem(THEME) ?? "";
setTheme($("theme").value);
$("theme").addEventListener("change", () => {
  localStorage.setItem(THEME, $("theme").value);
  setTheme($("theme").value);
});
$("key-form").addEventListener("submit", guarded(() => {
  useKey($("key").value);
  return start();
}));
$("forget").addEventListener("click", () => {
  forgetKey();
  location.reload();
});
$("ask").addEventListener("submit", guarded(send));
$("ask").addEventListener("input", showSource);
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
guarded(start)();
