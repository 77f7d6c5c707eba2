// Where one reads: new text comes into view only for who is at the end.

const NEAR_THE_END = 48; // pixels

const log = document.getElementById("log");
const button = document.getElementById("to-end");
let following = true; // the newest text, until one scrolls up

export function toEnd() {
  following = true;
  log.scrollTop = log.scrollHeight;
  button.hidden = true;
}

/** Change what is shown: who reads at the end stays there, who reads above stays where he is. */
export function keepingPlace(change) {
  change();
  if (following) toEnd();
}

log.addEventListener("scroll", () => {
  following = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_THE_END;
  button.hidden = following;
});
button.addEventListener("click", toEnd);
// A line above, a longer message below, a keyboard on a phone: who reads at the end stays there.
new ResizeObserver(() => following && toEnd()).observe(log);
