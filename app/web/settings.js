// What the user has set, kept in the browser.

import { read, write } from "./kept.js";

const DEFAULTS = { system: "", temperature: 0.7, maxTokens: null, key: "", model: "", guesses: false };

export const settings = { ...DEFAULTS, ...JSON.parse(read("settings") || "{}") };

export function set(changes) {
  Object.assign(settings, changes);
  write("settings", JSON.stringify(settings));
}

/** Fill the dialog's fields, and take over what is entered, as soon as it is valid. */
export function connect(dialog, onChange) {
  const fields = dialog.querySelector("form").elements;
  fields.system.value = settings.system;
  fields.temperature.value = settings.temperature;
  fields.maxTokens.value = settings.maxTokens ?? "";
  fields.key.value = settings.key;
  fields.theme.value = read("theme");
  dialog.addEventListener("change", () => {
    write("theme", fields.theme.value); // apart, as theme.js reads it before anything else runs
    document.documentElement.dataset.theme = fields.theme.value;
    const changes = { system: fields.system.value, key: fields.key.value.trim() };
    if (fields.temperature.validity.valid) changes.temperature = fields.temperature.valueAsNumber;
    if (fields.maxTokens.validity.valid) changes.maxTokens = fields.maxTokens.valueAsNumber || null;
    const newKey = changes.key !== settings.key;
    set(changes);
    onChange({ newKey });
  });
}
