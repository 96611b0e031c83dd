
// --- rewriting a part of a piece: the selection in its frame goes into the setting `rewrite` ---

const FOR_NEW = ["prompt", "chords", "choruses", "bars", "form", "count", "tempo_bpm", "band_seed"]; // settings
let pieces = []; // those shown that can be rewritten: {made, item, frame, voices, all}
let before = null; // the form's state before a piece was kept
const rewriteField = () => by("set-rewrite");
const greet = ({ frame, voices }) => frame.contentWindow?.postMessage({ reprise: "select", voices }, "*"); // it has no origin

function again(made, item, frame) {
  // a line with the button, for below the piece
  const given = !!made.settings.chords && item.ended; // chords given by the user stay
  const shown = { made, item, frame, all: described.voices.length, voices: described.voices.filter((name) => !(given && name === "chords")) };
  pieces = pieces.filter((one) => one.frame.isConnected);
  pieces.push(shown);
  frame.addEventListener("load", () => greet(shown));
  const button = make("button", { type: "button" }, "Rewrite");
  button.addEventListener("click", () => rewrite(shown));
  const edit = make("button", { type: "button" }, "Edit");
  edit.addEventListener("click", () => { by("more").open = true; rewriteField().focus(); });
  return make("p", { class: "again" }, button, make("span", { class: "note" }), edit);
}

function mirror() {
  const part = rewriteField()?.value.trim();
  for (const line of document.querySelectorAll(".again")) {
    const [button, edit] = line.querySelectorAll("button");
    button.disabled = edit.hidden = !part;
    line.querySelector("span").textContent = part || "Press Select and drag over the notes to rewrite.";
  }
}

async function hold({ made, item }, part) {
  // sets the form for rewriting a part of this piece
  const mine = described?.name === made.model && described.version === made.version;
  const now = mine ? { ...made.settings, ...chosen().settings } : made.settings;
  if (!held) before = { model: made.model, settings: Object.fromEntries(FOR_NEW.map((name) => [name, now[name]])) };
  const form = item.ended || !made.settings.chords ? made.settings.form || "" : ""; // shown where its bars stay
  const values = {
    ...now,
    ...(by("melody").files.length && { constraints: made.settings.constraints }),
    ...(!item.ended && { chords: "", choruses: 1 }), // they have more bars than it has
    given: item.given, given_ends: true, rewrite: part, prompt: "", form, bars: form ? made.settings.bars : 0,
    count: held ? now.count : 1, tempo_bpm: now.tempo_bpm || item.score.tempo_bpm,
    band_seed: made.settings.band_seed >= 0 ? made.settings.band_seed : (made.seed + item.number - 1) % 2 ** 32, // the same band
  };
  for (const name of ["melody", "start", "keep"]) by(name).value = "";
  if (mine) show(values);
  else {
    by("model").value = made.model;
    versions(made.version);
    await describe(values);
  }
}

async function rewrite(shown) {
  if (running) return;
  const { number } = shown.item, before = location.hash;
  await hold(shown, rewriteField()?.value ?? shown.made.settings.rewrite);
  await run(generate, true);
  if (location.hash === before) return; // refused or stopped
  const now = location.hash;
  history.replaceState(null, "", before); // so that the browser's Back makes the piece before again
  history.pushState(null, "", now);
  const [one] = document.querySelectorAll('.item[data-number="' + number + '"] .again button, .again button');
  one?.focus({ preventScroll: true });
}

addEventListener("message", async ({ source, origin, data }) => {
  const shown = pieces.find(({ frame }) => frame.contentWindow === source);
  if (!shown || origin !== "null" || data?.reprise !== "selected" || !data.bars?.every?.(Number.isInteger)) return;
  const [first, last] = data.bars, names = shown.voices.filter((name) => data.voices?.includes?.(name));
  const all = names.length === shown.all;
  for (const other of pieces) if (other !== shown) greet(other); // one selection at a time
  await hold(shown, (first === last ? "bar " + first : "bars " + first + "-" + last) + (all ? "" : ", " + names.join(" ")));
});
by("rare").addEventListener("input", (event) => {
  if (event.target === rewriteField()) { mirror(); pieces.forEach(greet); } // what is marked isn't what is written any more
});
by("drop").addEventListener("click", () => {
  const again = before?.model === described.name ? before.settings : { band_seed: -1 };
  show({ ...chosen().settings, ...again, given: [], rewrite: "" });
  pieces.forEach(greet);
});
