// Shows the OpenAPI document beside this page. Where the ingress requires an API key, it is asked for first, and kept in this tab's
// memory alone.

const BUNDLE = "/-/site/openapi-explorer.js";
const form = /** @type {HTMLFormElement} */ (document.getElementById("key"));
const secret = /** @type {HTMLInputElement} */ (document.getElementById("secret"));
const error = /** @type {HTMLElement} */ (document.getElementById("error"));
const place = /** @type {HTMLElement} */ (document.getElementById("document"));

/**
 * Loads the document and shows it, or says why not.
 * @param {string} key
 */
async function show(key) {
  error.textContent = "";
  const headers = new Headers(key === "" ? [] : [["authorization", `Bearer ${key}`]]);
  const answer = await fetch("openapi.json", { headers });
  const loaded = await answer.json();
  form.hidden = answer.status !== 401;
  if (answer.status === 401 && key === "") return secret.focus();
  if (!answer.ok) {
    error.textContent = loaded.detail;
    return;
  }
  await import(BUNDLE);
  const explorer = /** @type {any} */ (document.createElement("openapi-explorer"));
  const routes = Object.keys(loaded.paths);
  const settings = {
    "server-url": location.origin,
    "hide-server-selection": "true",
    "hide-components": "true",
    "default-schema-tab": "body",
    layout: "column",
    // Where there is one pipeline, the page begins with it.
    ...(routes.length === 1 && { "explorer-location": `post-${routes[0]}` }),
  };
  for (const [name, value] of Object.entries(settings)) explorer.setAttribute(name, value);
  place.replaceChildren(explorer);
  await explorer.loadSpec(loaded);
  if (key !== "") await explorer.setAuthenticationConfiguration("bearer", { token: key });
}

/** @param {string} key */
function tryToShow(key) {
  show(key).catch((reason) => {
    error.textContent = `The document cannot be shown: ${reason}`;
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  tryToShow(secret.value.trim());
});
tryToShow("");
