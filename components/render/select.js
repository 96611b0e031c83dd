
// --- selecting bars and voices, if the parent page asks for it; the selection is posted to the parent ---

const select = by("select"), choice = by("choice"), first = by("first"), last = by("last"), of = by("of");
const picture = sheet.querySelector("svg"), symbols = sheet.querySelector(".chords");
const chosen = by("chosen"), lasso = by("lasso"), rows = picture.viewBox.baseVal.height;
const nameOf = (voice) => legend[voice].textContent.trim().toLowerCase();
const inputs = () => [...of.querySelectorAll("input")];
let asked = [], anchor = null, drew = false; // names of selectable voices; start of a drag; whether a drag just ended

function selecting(on) {
  select.setAttribute("aria-pressed", on);
  choice.hidden = !on;
  sheet.classList.toggle("selecting", on);
}
const isSelecting = () => !choice.hidden;

function point(event) {
  // in steps from the left, in pixels from the top
  const box = sheet.getBoundingClientRect();
  return { x: clamp((event.clientX - box.left) / box.width, 0, 1) * score.steps, y: clamp(event.clientY - box.top, 0, box.height) };
}

function touched(left, right, top, bottom) {
  // names of the voices in a box (in steps and pixels); all, if it holds no notes
  const outer = sheet.getBoundingClientRect().top, box = picture.getBoundingClientRect();
  const row = (y) => ((y - (box.top - outer)) / box.height) * rows;
  const found = new Set(notes.filter(({ box, start, end }) => {
    const y = +box.getAttribute("y");
    return start <= right && end > left && y <= row(bottom) && y + +box.getAttribute("height") > row(top);
  }).map(({ box }) => nameOf(box.parentNode.dataset.voice)));
  const above = symbols?.getBoundingClientRect();
  if (above && above.top - outer <= bottom && above.bottom - outer > top) found.add("chords");
  const names = asked.filter((name) => found.has(name));
  return names.length ? names : asked;
}

function choose(from, to, names, tell) {
  // bar numbers, inclusive
  const numbers = score.bars.map(([number]) => number), at = (n) => clamp(numbers.indexOf(n), 0, numbers.length - 1);
  const start = score.bars[at(from)][1], end = score.bars[at(to)][2];
  [first.value, last.value] = [from, to];
  for (const input of inputs()) input.checked = names.includes(input.value);
  chosen.hidden = false;
  chosen.style.left = (100 * start) / score.steps + "%";
  chosen.style.width = (100 * (end - start)) / score.steps + "%";
  for (const note of notes) {
    // other voices, and notes that cross an edge
    const stays = note.start < start || note.end > end || !names.includes(nameOf(note.box.parentNode.dataset.voice));
    note.box.classList.toggle("stays", stays && note.start < end && note.end > start);
  }
  if (tell) parent.postMessage({ reprise: "selected", bars: [from, to], voices: names }, "*"); // the parent asked, and nothing here is secret
}

function stretch(event, tell) {
  const here = point(event), edges = scroller.getBoundingClientRect();
  const [left, right] = [anchor.x, here.x].sort((a, b) => a - b), [top, bottom] = [anchor.y, here.y].sort((a, b) => a - b);
  Object.assign(lasso.style, { left: (100 * left) / score.steps + "%", width: (100 * (right - left)) / score.steps + "%", top: top + "px", height: bottom - top + "px" });
  const bar = (step) => (score.bars.find(([, , end]) => step < end) ?? score.bars.at(-1))[0];
  choose(bar(left), bar(Math.max(left, right - 1e-6)), touched(left, right, top, bottom), tell);
  handsOff = performance.now() + 3000;
  const beyond = event.clientX > edges.right - 24 ? 1 : event.clientX < edges.left + 24 ? -1 : 0;
  if (!tell) scroller.scrollLeft += 24 * beyond;
}

sheet.addEventListener("pointerdown", (event) => {
  drew = false;
  if (event.button || !asked.length || !(isSelecting() || (event.shiftKey && event.pointerType === "mouse"))) return;
  event.stopImmediatePropagation(); // don't move the cursor
  sheet.setPointerCapture(event.pointerId);
  anchor = point(event);
  lasso.hidden = false;
  stretch(event, false);
}, true);
sheet.addEventListener("pointermove", (event) => anchor && stretch(event, false));
sheet.addEventListener("pointerup", (event) => {
  if (!anchor) return;
  stretch(event, true);
  selecting(true); // not before: the line of controls moves the notes down
  [anchor, drew, lasso.hidden] = [null, true, true];
});
sheet.addEventListener("pointercancel", () => ([anchor, lasso.hidden] = [null, true]));
sheet.addEventListener("click", (event) => (drew || isSelecting()) && event.stopImmediatePropagation(), true);

select.addEventListener("click", () => selecting(!isSelecting()));
choice.addEventListener("keydown", (event) => event.key === "Escape" && (selecting(false), select.focus()));
choice.addEventListener("change", (event) => {
  const low = +first.min, high = +first.max, whole = (input) => clamp(Math.round(+input.value) || low, low, high);
  let [from, to] = [whole(first), whole(last)];
  if (from > to) [from, to] = event.target === last ? [to, to] : [from, from];
  const names = inputs().filter((input) => input.checked).map((input) => input.value);
  choose(from, to, names.length ? names : asked, true);
});

addEventListener("message", ({ source, data }) => {
  if (parent === window || source !== parent || data?.reprise !== "select" || !Array.isArray(data.voices)) return;
  const begun = !asked.length, marked = sheet.querySelector(".marked");
  asked = data.voices.filter((name) => name === "chords" || legend.some((_, voice) => nameOf(voice) === name));
  select.hidden = !asked.length;
  root.classList.toggle("asked", !select.hidden); // room for the controls
  for (const input of [first, last]) [input.min, input.max, input.value] = [score.bars[0][0], score.bars.at(-1)[0], ""];
  of.replaceChildren(...(asked.length > 1 ? asked : []).map((name) => {
    const label = document.createElement("label"), input = document.createElement("input");
    [input.type, input.value] = ["checkbox", name];
    label.append(input, name[0].toUpperCase() + name.slice(1));
    return label;
  }));
  chosen.hidden = true;
  for (const note of notes) note.box.classList.remove("stays");
  if (begun && marked) seek(+marked.getAttribute("x")); // start at the regenerated part
});
