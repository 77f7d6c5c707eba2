// The server, as the page sees it: models, streamed answers, and what went wrong in words.

/** What went wrong. kind: gone, key, loading, refused or broken. */
export class ServerError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** The served models: [{id, medusa_heads, ...}]. Throws a ServerError. */
export async function listModels(key) {
  const response = await ask("v1/models", { headers: headersFor(key) });
  return (await json(response)).data;
}

/** The chunks of a streamed chat completion. Throws a ServerError, or AbortError by the signal. */
export async function* chat(body, key, signal) {
  const response = await ask("v1/chat/completions", {
    method: "POST",
    headers: { ...headersFor(key), "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) throw foreign(response);
  for await (const data of eventsOf(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError("refused", chunk.error.message);
    yield chunk;
  }
  throw new ServerError("broken", "The connection broke off before the answer had ended.");
}

const headersFor = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // A key with characters that no header can have never leaves the browser.
    if (options.headers.Authorization && !/^[\x00-\xff]*$/.test(options.headers.Authorization))
      throw new ServerError("key", "No such key: it has characters that cannot be sent.");
    throw new ServerError("gone", "The server cannot be reached.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const { error } = await json(response);
  const message = error?.message ?? `The server answered ${response.status}.`;
  if (response.status === 401) return new ServerError("key", message);
  const kind = error?.code === "loading" || error?.code === "restarting" ? "loading" : "refused";
  return new ServerError(kind, message);
}

async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw foreign(response);
  }
}

function foreign(response) {
  const status = `${response.status} ${response.statusText}`.trim();
  return new ServerError(
    "gone",
    `Something between this page and the server answered in its place (${status}); the server may be down.`,
  );
}

async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("broken", "The connection broke off before the answer had ended.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
