// The page: what is shown, what runs, and what becomes of clicks and keys.

import { emptyAnswer, take } from "./answers.js";
import { chat } from "./api.js";
import { Connection } from "./connection.js";
import { Conversations, emptyConversation, forModel } from "./conversations.js";
import * as guesses from "./guesses.js";
import { read, write } from "./kept.js";
import { Answer, Question, button, copy, isSend, make } from "./message.js";
import { notify } from "./notice.js";
import { keepingPlace, toEnd } from "./reading.js";
import { connect, set, settings } from "./settings.js";
import { showList } from "./sidebar.js";

const $ = (id) => document.getElementById(id);
const KEPT_EVERY_MS = 1000; // while an answer comes
const IDEAS = ["Why is the sky blue?", "Write a haiku about rain.", "List five facts about Mars as a table."];

const store = await Conversations.open();
let current = emptyConversation();
let views = new Map(); // of each message shown
let running = null; // {message, controller}, while an answer comes

// ---- conversations ----

function openConversation(conversation) {
  stop();
  current = conversation;
  views = new Map();
  guesses.unmarkAll();
  $("log").replaceChildren();
  for (const message of current.messages) showMessage(message);
  if (!current.messages.length) $("log").append(greeting());
  showConversations();
  showSidebar(false);
  toEnd();
  if (matchMedia("(pointer: fine)").matches) $("input").focus();
}

function showConversations() {
  showList($("conversations"), store.all, current, {
    open: openConversation,
    rename(conversation, title) {
      conversation.title = title;
      store.save(conversation);
      showConversations();
    },
    remove(conversation) {
      store.remove(conversation);
      if (conversation === current) openConversation(emptyConversation());
      showConversations();
      notify("Conversation deleted.", "Undo", () => {
        store.restore(conversation);
        showConversations();
      });
    },
  });
}

function greeting() {
  const ideas = IDEAS.map((idea) => button(idea, "idea", () => send(idea)));
  return make("div", "greeting", make("h1", "", "What would you like to know?"), ...ideas);
}

// ---- messages ----

function showMessage(message) {
  const view =
    message.role === "user"
      ? new Question(message, { onEdit: (text) => replace(message, text) })
      : new Answer(message, { onAgain: () => regenerate(message) });
  views.set(message, view);
  $("log").querySelector(".greeting")?.remove();
  $("log").append(view.element);
  updateView(message);
}

function updateView(message) {
  const coming = running?.message === message;
  views.get(message)?.update({ coming, withGuesses: settings.guesses && guesses.areShowable });
}

/** Take a message and all after it out of the conversation. */
function cut(message) {
  const from = current.messages.indexOf(message);
  for (const gone of current.messages.splice(from)) {
    guesses.unmark(gone);
    views.get(gone)?.element.remove();
    views.delete(gone);
  }
}

function send(text) {
  stop();
  const message = { role: "user", content: text };
  current.messages.push(message);
  showMessage(message);
  store.save(current, { touch: true });
  showConversations();
  answer();
}

function replace(message, text) {
  stop();
  cut(message);
  send(text);
}

function regenerate(message) {
  stop();
  cut(message);
  answer();
}

// ---- answers ----

async function answer() {
  const conversation = current;
  const messages = forModel(conversation.messages, settings.system);
  const message = emptyAnswer();
  const controller = new AbortController();
  conversation.messages.push(message);
  running = { message, controller };
  showMessage(message);
  showRunning();
  toEnd();
  const body = {
    model: settings.model || "default",
    messages,
    temperature: settings.temperature,
    ...(settings.maxTokens && { max_tokens: settings.maxTokens }),
    return_drafts: true,
  };
  let kept = performance.now();
  try {
    for await (const chunk of chat(body, settings.key, controller.signal)) {
      const now = performance.now();
      take(message, chunk, now);
      updateSoon(message);
      if (now - kept > KEPT_EVERY_MS) {
        kept = now;
        store.save(conversation);
      }
    }
  } catch (error) {
    if (error.name === "AbortError") message.ended = "cancelled";
    else message.error = { kind: error.kind ?? "broken", message: error.message };
  }
  if (running?.message === message) running = null;
  if (store.all.includes(conversation)) store.save(conversation);
  showRunning();
  keepingPlace(() => updateView(message));
  if (message.error?.kind === "key") askForKey(message.error.message);
  if (message.error?.kind === "gone" || message.error?.kind === "broken") connection.check();
}

function stop() {
  running?.controller.abort();
  running = null;
  showRunning();
}

function showRunning() {
  $("send").textContent = running ? "Stop" : "Send";
  $("send").setAttribute("aria-label", running ? "Stop the answer" : "Send");
  $("log").setAttribute("aria-busy", String(running !== null));
}

const due = new Set(); // messages to show anew with the next frame

function updateSoon(message) {
  if (!due.size) {
    requestAnimationFrame(() => {
      const messages = [...due];
      due.clear();
      keepingPlace(() => messages.forEach(updateView));
    });
  }
  due.add(message);
}

// ---- the server ----

const connection = new Connection(() => settings.key, showModels, showTrouble);

function showModels(models) {
  say("");
  const chosen = models.find(({ id }) => id === settings.model) ?? models[0];
  $("model").textContent = chosen.id;
  $("model").hidden = models.length > 1;
  $("models").hidden = models.length < 2;
  $("models").replaceChildren(...models.map(({ id }) => new Option(id, id, false, id === chosen.id)));
  $("heads").textContent = chosen.medusa_heads ? `${chosen.medusa_heads} Medusa heads` : "";
}

function showTrouble({ kind, message }) {
  if (kind === "key") askForKey(message);
  else say(kind === "loading" ? "The model is loading …" : `${message} Trying again …`);
}

function say(text, ...more) {
  $("status").hidden = !text;
  if ($("status").textContent !== text) $("status").replaceChildren(text, ...more);
}

function askForKey(reason) {
  say("The server asks for a key. ", button("Enter it", "quiet", () => askForKey(reason)));
  if ($("key").open) return;
  $("key-reason").textContent = settings.key ? "The key that is set is not the right one." : reason;
  $("key").querySelector("input").value = "";
  $("key").returnValue = "";
  $("key").showModal();
}

$("key").addEventListener("close", () => {
  if ($("key").returnValue !== "ok") return;
  set({ key: $("key").querySelector("input").value.trim() });
  $("settings").querySelector("[name=key]").value = settings.key;
  const last = current.messages.at(-1);
  if (last?.error?.kind === "key") regenerate(last);
  connection.check();
});

$("models").addEventListener("change", () => {
  set({ model: $("models").value });
  connection.check();
});

// ---- writing ----

function fit() {
  $("input").style.height = "auto";
  $("input").style.height = `${$("input").scrollHeight}px`;
}

function setInput(text) {
  $("input").value = text;
  write("unsent", text);
  fit();
}

$("input").addEventListener("input", () => setInput($("input").value));
$("input").addEventListener("keydown", (event) => {
  if (!isSend(event)) return;
  event.preventDefault();
  if (!running) $("composer").requestSubmit();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) {
    stop();
    return;
  }
  const text = $("input").value.trim();
  if (!text) return;
  setInput("");
  send(text);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("sidebar-open")) showSidebar(false);
  else stop();
});

// ---- the rest of the page ----

function showSidebar(open) {
  document.body.classList.toggle("sidebar-open", open);
  $("open-sidebar").setAttribute("aria-expanded", String(open));
  $("shade").hidden = !open;
}

function showGuesses() {
  $("show-guesses").setAttribute("aria-pressed", String(settings.guesses));
  guesses.show(settings.guesses);
}

$("show-guesses").hidden = !guesses.areShowable;
$("show-guesses").addEventListener("click", () => {
  set({ guesses: !settings.guesses });
  showGuesses();
  keepingPlace(() => current.messages.forEach(updateView));
});
$("log").addEventListener("click", ({ target }) => {
  if (!target.matches(".copy-code")) return;
  copy(target.closest(".code").querySelector("code").textContent, target);
});
$("new").addEventListener("click", () => openConversation(emptyConversation()));
$("open-sidebar").addEventListener("click", () => showSidebar(true));
$("close-sidebar").addEventListener("click", () => showSidebar(false));
$("shade").addEventListener("click", () => showSidebar(false));
$("open-settings").addEventListener("click", () => $("settings").showModal());
connect($("settings"), ({ newKey }) => newKey && connection.check());

// until now nothing would have come of a message, and its text would have been lost
$("input").disabled = false;
$("send").disabled = false;
showGuesses();
openConversation(store.all[0] ?? emptyConversation());
setInput(read("unsent"));
if (!store.areKept) notify("This browser keeps nothing: conversations go when the page is closed.", "OK", () => {});
connection.check();
