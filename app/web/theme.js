// Before anything is painted: the theme that was chosen, if one was.
try {
  document.documentElement.dataset.theme = localStorage.getItem("llama-medusa.theme") ?? "";
} catch {
  // a browser that keeps nothing: as the system
}
