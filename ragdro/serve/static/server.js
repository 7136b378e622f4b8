// What the page asks its server, with the key if there is one. Whatever goes wrong is a Problem of one line.

const KEY = "ragdro-key";

export class Problem extends Error {
  /** `status`: HTTP's; 0 where no answer came. */
  constructor(line, status) {
    super(line);
    this.status = status;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const useKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** The JSON of a route; `body` is posted, `signal` aborts. Raises `Problem`, or an AbortError. */
export async function ask(path, body = null, signal = undefined) {
  const headers = {};
  if (hasKey()) headers.Authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  const request = { headers, signal, credentials: "omit", redirect: "error" };
  if (body !== null) {
    headers["Content-Type"] = "application/json";
    Object.assign(request, { method: "POST", body });
  }
  let response, text;
  try {
    response = await fetch(path, request);
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is it still running?", 0);
  }
  let found = null;
  try {
    found = JSON.parse(text);
  } catch (error) {
    if (response.ok) throw new Problem("The server’s answer is not JSON.", response.status);
  }
  if (!response.ok) throw new Problem(lineOf(response, found), response.status);
  return found;
}

/** What an error says, in one line: the server's own words, or the status of whatever stands before it. */
function lineOf(response, found) {
  const said = found?.error?.message;
  if (said) return `${said[0].toUpperCase()}${said.slice(1)}${/[.!?)]$/.test(said) ? "" : "."}`;
  const known = {
    413: "The question and its passages are larger than this server takes.",
    429: "Too many requests; try again in a moment.",
    502: "The server behind the proxy does not answer.",
    503: "The server takes no questions at the moment; try again shortly.",
    504: "The server did not answer in time.",
  };
  return known[response.status] ?? `The server answered with status ${response.status}.`;
}
