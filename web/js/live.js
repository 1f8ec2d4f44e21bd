// What the server says by itself. The only place with an EventSource.
//
// Must stay true: events are hints to ask again, at most twice a second; nothing is open while the tab
// is hidden. Not here: what to ask.

import { eventsAddress } from "./api.js";

const HINT_PAUSE_MS = 500;
const TRY_AGAIN_MS = 3000;

/** Opens `address` again and again while the tab is seen. `listen` gets each new EventSource. */
function keepOpen(address, listen, tell) {
  let source = null;
  let timer = 0;
  let ended = false;
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = () => {
    close();
    if (ended || document.hidden) return;
    source = new EventSource(address);
    source.onopen = () => tell("live");
    source.onerror = () => {
      tell("reconnecting");
      // An answer that is no stream ends the source for good.
      if (source?.readyState === EventSource.CLOSED) timer = setTimeout(open, TRY_AGAIN_MS);
    };
    listen(source);
  };
  const seen = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", seen);
  open();
  return () => {
    ended = true;
    document.removeEventListener("visibilitychange", seen);
    close();
  };
}

/** Calls `hint` with the events that came, or with null when some may have been missed, and `tell` with `live` or `reconnecting`. Gives a function
 *  that ends it. */
export function watch(hint, tell) {
  let last = 0;
  let timer = 0;
  let events = [];
  const soon = (event) => {
    if (events && event) events.push(event);
    else events = null;
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      last = Date.now();
      const told = events;
      events = [];
      hint(told);
    }, Math.max(0, last + HINT_PAUSE_MS - Date.now()));
  };
  let was = "";
  const told = (state) => {
    // What happened while nobody listened is not told again in full.
    if (state === "live" && was !== "") soon();
    was = state;
    tell(state);
  };
  const stop = keepOpen(
    eventsAddress,
    (source) => {
      source.onmessage = (event) => soon(JSON.parse(event.data));
      source.addEventListener("reset", () => soon());
    },
    told,
  );
  return () => {
    clearTimeout(timer);
    stop();
  };
}

/** Follows a task's log. `on.line`, `on.lost` and `on.end` get what came. */
export function follow(address, on) {
  let seen = 0;
  const stop = keepOpen(
    address,
    (source) => {
      source.onmessage = (event) => {
        const line = JSON.parse(event.data);
        if (line.n <= seen) return;
        seen = line.n;
        on.line(line);
      };
      source.addEventListener("lost", () => on.lost());
      source.addEventListener("end", () => {
        stop();
        on.end();
      });
    },
    () => {},
  );
  return stop;
}
