// The list of conversations.

import { titleOf } from "./conversations.js";
import { button, make } from "./message.js";

/** Show conversations; handlers: open(conversation), rename(conversation, title), remove(conversation). */
export function showList(list, conversations, current, handlers) {
  list.replaceChildren(...conversations.map((each) => itemOf(each, each === current, handlers)));
}

function itemOf(conversation, isCurrent, handlers) {
  const title = titleOf(conversation);
  const open = button(title, "title", () => handlers.open(conversation));
  open.title = title;
  if (isCurrent) open.setAttribute("aria-current", "true");
  const rename = button("✎", "icon", () => edit(item, conversation, handlers));
  rename.setAttribute("aria-label", `Rename “${title}”`);
  const remove = button("✕", "icon", () => handlers.remove(conversation));
  remove.setAttribute("aria-label", `Delete “${title}”`);
  const item = make("li", isCurrent ? "current" : "", open, rename, remove);
  return item;
}

function edit(item, conversation, { rename }) {
  const field = make("input");
  field.value = titleOf(conversation);
  field.setAttribute("aria-label", "Name of the conversation");
  let ended = false; // leaving the field, as its removal does, is the end too
  const end = (title) => {
    if (ended) return;
    ended = true;
    rename(conversation, title);
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") end(field.value.trim());
    if (event.key === "Escape") end(conversation.title);
    event.stopPropagation();
  });
  field.addEventListener("blur", () => end(field.value.trim()));
  item.replaceChildren(field);
  field.focus();
  field.select();
}
