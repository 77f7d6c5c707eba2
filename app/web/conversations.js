// Conversations, kept in the browser (IndexedDB), or for as long as the page is open without it.
//
// A conversation is {id, title, updated, messages}, a message {role, content} and for answers also
// {reasoning, drafts: [[text, source or null], ...], statistics, ended, error}.

const STORE = "conversations";

export class Conversations {
  /** All that were kept, the newest first. */
  static async open() {
    const conversations = new Conversations();
    try {
      conversations.database = await promised(opening());
      const kept = await promised(conversations.database.transaction(STORE).objectStore(STORE).getAll());
      conversations.all = kept.sort((a, b) => b.updated - a.updated);
    } catch {
      conversations.database = null; // no storage, as in some private windows
    }
    return conversations;
  }

  constructor() {
    this.database = null;
    this.all = [];
  }

  get areKept() {
    return this.database !== null;
  }

  /** Keep a conversation as it is now; `touch` puts it first. */
  save(conversation, { touch = false } = {}) {
    if (touch || !this.all.includes(conversation)) {
      conversation.updated = Date.now();
      this.all = [conversation, ...this.all.filter((each) => each !== conversation)];
    }
    this.change((stored) => stored.put(conversation));
  }

  remove(conversation) {
    this.all = this.all.filter((each) => each !== conversation);
    this.change((stored) => stored.delete(conversation.id));
  }

  /** Take back a removal. */
  restore(conversation) {
    this.all = [...this.all, conversation].sort((a, b) => b.updated - a.updated);
    this.save(conversation);
  }

  change(make) {
    const transaction = this.database?.transaction(STORE, "readwrite");
    if (!transaction) return;
    make(transaction.objectStore(STORE));
    transaction.commit(); // now, or a page that is closed at once takes it back
  }
}

/** A conversation without messages, which is not kept until it has some. */
export function emptyConversation() {
  // crypto.randomUUID is there over HTTPS and on localhost only
  const id = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36));
  return { id: id.join("-"), title: "", updated: 0, messages: [] };
}

/** What a conversation is called: its name, or how its first message begins. */
export function titleOf({ title, messages }) {
  const first = messages.find((message) => message.content)?.content ?? "";
  return title || first.trim().split("\n")[0].slice(0, 60) || "New conversation";
}

/** The messages as the model is to read them: nothing empty, and the same role never twice in a row. */
export function forModel(messages, system) {
  const said = system.trim() ? [{ role: "system", content: system.trim() }] : [];
  for (const { role, content } of messages) {
    if (!content) continue;
    const last = said.at(-1);
    if (last?.role === role) last.content += `\n\n${content}`;
    else said.push({ role, content });
  }
  return said;
}

function opening() {
  const request = indexedDB.open("llama-medusa", 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
  return request;
}

function promised(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
