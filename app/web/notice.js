// A line that comes up for a while, with something to do about it.

import { button } from "./message.js";

const SHOWN_MS = 8000;

const notice = document.getElementById("notice");
let timer = null;

export function notify(text, action, onAction) {
  const hide = () => (notice.hidden = true);
  const act = button(action, "quiet", () => {
    hide();
    onAction();
  });
  notice.replaceChildren(text, act);
  notice.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(hide, SHOWN_MS);
}
