// Before anything is painted: the theme that was chosen, if one was.
const theme = localStorage.getItem("llama-medusa.theme");
if (theme) document.documentElement.dataset.theme = theme;
