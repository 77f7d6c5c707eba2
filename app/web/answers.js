// An answer while it comes: chunks of a stream put together, with what the guesses were worth.

/** An answer of which nothing has come yet. */
export function emptyAnswer() {
  return { role: "assistant", content: "", reasoning: "", drafts: [], statistics: null, ended: null, error: null };
}

/** Take over a chunk that came at a time in ms. */
export function take(answer, chunk, now) {
  const choice = chunk.choices[0];
  if (choice) {
    answer.content += choice.delta.content ?? "";
    answer.reasoning += choice.delta.reasoning_content ?? "";
    answer.ended = choice.finish_reason ?? answer.ended;
    if (choice.drafts?.length) count(answer, choice.drafts, now);
  }
}

/** One step of the server: the tokens that it added. Speed is counted from the first one on. */
function count(answer, drafts, now) {
  answer.drafts.push(...drafts.map(({ token, source }) => [token, source]));
  const before = answer.statistics;
  answer.statistics = {
    tokens: (before?.tokens ?? 0) + drafts.length,
    steps: (before?.steps ?? 0) + 1,
    first: before?.first ?? drafts.length, // tokens of the first step
    began: before?.began ?? now, // when that had come
    seconds: before ? (now - before.began) / 1000 : 0,
  };
}

/** How many tokens each source guessed right: [[source, count], ...]. */
export function rightGuesses({ drafts }) {
  const counts = new Map();
  for (const [, source] of drafts) if (source) counts.set(source, (counts.get(source) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

/** What is said below an answer. */
export function summary(answer) {
  const parts = [];
  const { statistics } = answer;
  if (statistics) {
    const { tokens, steps, first, seconds } = statistics;
    parts.push(tokens === 1 ? "1 token" : `${tokens} tokens`);
    if (tokens > first && seconds > 0) parts.push(`${Math.round((tokens - first) / seconds)} tokens/s`);
    parts.push(`${(tokens / steps).toFixed(1)} tokens per step`);
    const right = answer.drafts.filter(([, source]) => source).length;
    if (right) parts.push(`${Math.round((100 * right) / tokens)} % guessed`);
  }
  if (answer.ended === "length") parts.push("cut off at the limit");
  if (answer.ended === "cancelled") parts.push("stopped");
  return parts.join(" · ");
}
