// After logging in people land on the page that they asked for. Without scripts they land on the overview.

const form = document.querySelector("form");
if (location.pathname !== "/login") sessionStorage.setItem("next", location.pathname + location.search);
const next = sessionStorage.getItem("next");
if (form && next) {
  form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "next", value: next }));
}
