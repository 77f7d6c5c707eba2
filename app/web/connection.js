// Whether the server is there, asked again and again: quickly while it is not.

import { listModels } from "./api.js";

const AWAY_MS = 2000;
const THERE_MS = 30000;

export class Connection {
  /** `getKey` gives the API key; `onModels(models)` and `onTrouble(error)` are told how it is. */
  constructor(getKey, onModels, onTrouble) {
    Object.assign(this, { getKey, onModels, onTrouble });
    this.timer = null;
    this.asked = 0;
    document.addEventListener("visibilitychange", () => document.hidden || this.check());
  }

  /** Ask now, and from then on by itself. */
  async check() {
    clearTimeout(this.timer);
    const number = ++this.asked;
    let wait = THERE_MS;
    try {
      const models = await listModels(this.getKey());
      if (number === this.asked) this.onModels(models);
    } catch (error) {
      if (number !== this.asked) return;
      wait = error.kind === "key" ? null : AWAY_MS; // another key is asked for by the page
      this.onTrouble(error);
    }
    if (wait !== null && number === this.asked) this.timer = setTimeout(() => this.again(), wait);
  }

  again() {
    if (document.hidden) return; // asked when the page is looked at
    this.check();
  }
}
