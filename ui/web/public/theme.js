// Runs before the first paint, so that a saved theme never flashes. A file of its own: the page's CSP allows no inline script.
try {
  const saved = localStorage.getItem("parallax.theme");
  if (saved === "dark" || saved === "light") document.documentElement.dataset.theme = saved;
} catch {
  // Storage may be refused: the system's theme is used then.
}
