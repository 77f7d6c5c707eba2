// One message on the page.

import { rightGuesses, summary } from "./answers.js";
import * as guesses from "./guesses.js";
import { render } from "./markdown.js";

/** A new element: a class, perhaps text, perhaps children. */
export function make(tag, className = "", ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

export function button(text, className, onClick) {
  const element = make("button", className, text);
  element.type = "button";
  element.addEventListener("click", onClick);
  return element;
}

/** Copy a text, and say so for a moment on the button that was pressed. */
export async function copy(text, pressed) {
  const before = pressed.textContent;
  pressed.textContent = (await copied(text)) ? "Copied" : "Not allowed";
  setTimeout(() => (pressed.textContent = before), 1500);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP there is no clipboard but this way.
    const field = make("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/** A message of the user, which may be edited: `onEdit(text)`. */
export class Question {
  constructor(message, { onEdit }) {
    this.message = message;
    this.onEdit = onEdit;
    this.element = make("article", "message user");
    this.element.setAttribute("aria-label", "You");
    this.update();
  }

  update() {
    const actions = make("div", "actions");
    const copyButton = button("Copy", "quiet", () => copy(this.message.content, copyButton));
    actions.append(copyButton, button("Edit", "quiet", () => this.edit()));
    this.element.replaceChildren(make("div", "text", this.message.content), actions);
  }

  edit() {
    const form = make("form", "edit");
    const field = make("textarea");
    field.value = this.message.content;
    field.rows = Math.min(12, field.value.split("\n").length + 1);
    field.setAttribute("aria-label", "Edit the message");
    const save = make("button", "primary", "Send");
    form.append(field, make("div", "row end", button("Cancel", "", () => this.update()), save));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim()) this.onEdit(field.value.trim());
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        this.update();
      } else if (isSend(event)) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    this.element.replaceChildren(form);
    field.focus();
  }
}

/** An answer, complete or coming: `onAgain()` asks for another one. */
export class Answer {
  constructor(message, { onAgain }) {
    this.message = message;
    this.element = make("article", "message assistant");
    this.element.setAttribute("aria-label", "Answer");
    this.thought = make("div", "thought");
    this.thinking = make("details", "reasoning", make("summary", "", "Reasoning"), this.thought);
    this.text = make("div", "markdown");
    this.error = make("p", "error");
    this.error.setAttribute("role", "alert");
    this.facts = make("span", "facts");
    this.legend = make("span", "legend");
    const copyButton = button("Copy", "quiet", () => copy(message.content, copyButton));
    this.again = button("Regenerate", "quiet again", onAgain);
    this.actions = make("div", "actions", copyButton, this.again);
    this.element.append(this.thinking, this.text, this.error, make("footer", "", this.facts, this.legend, this.actions));
  }

  /** Show the message as it is now. */
  update({ coming, withGuesses }) {
    const { message } = this;
    this.element.classList.toggle("coming", coming);
    this.element.classList.toggle("waiting", coming && !message.content && !message.reasoning);
    this.thinking.hidden = !message.reasoning;
    this.thinking.firstChild.textContent = coming && !message.content ? "Reasoning …" : "Reasoning";
    this.thought.textContent = message.reasoning;
    render(this.text, message.content);
    this.error.hidden = !message.error;
    this.error.textContent = message.error?.message ?? "";
    this.again.textContent = message.error ? "Try again" : "Regenerate";
    this.facts.textContent = summary(message);
    this.actions.hidden = coming;
    this.markGuesses(withGuesses);
  }

  markGuesses(withGuesses) {
    this.legend.replaceChildren();
    if (!withGuesses) return;
    guesses.mark(this.message, [this.thought, this.text], this.message.drafts);
    for (const [source, count] of rightGuesses(this.message)) {
      this.legend.append(make("span", `guessed ${guesses.colourOf(source)}`, `${source} ${count}`));
    }
  }
}

/** Whether a key means to send: Enter, where there is a keyboard for other lines than this one. */
export function isSend(event) {
  const touch = matchMedia("(pointer: coarse)").matches;
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && !touch;
}
