// The button that changes the colours: as the system has them, light, dark. `theme.js` applies the choice at the start.

const CHOICES = ["system", "light", "dark"];

/**
 * @param {HTMLElement} button
 * @param {() => void} changed
 */
export function startTheme(button, changed) {
  let choice = localStorage.getItem("theme") ?? "system";
  const show = () => {
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    button.textContent = `Colors: ${choice}`;
    changed();
  };
  button.addEventListener("click", () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    localStorage.setItem("theme", choice);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  show();
}
