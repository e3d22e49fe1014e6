// Applies the colours that the reader chose, before anything is painted: a page that turns dark a moment later hurts the
// eyes. Runs as a plain script in <head>, so it can neither import nor be imported.
{
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
