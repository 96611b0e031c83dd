"use strict";
// The listening page. The audio element is the clock.
const by = (id) => document.getElementById(id);
const root = document.documentElement;
const audio = by("audio"), play = by("play"), sheet = by("sheet"), scroller = by("scroll"), overview = by("overview");
const score = JSON.parse(by("score").textContent); // seconds, and in steps: steps, upbeat, bar, beat, bars [number, start, end, beat]
const cursors = document.querySelectorAll(".cursor");
const voices = [...document.querySelectorAll(".voice")];
const legend = [...document.querySelectorAll(".legend button")];
const notes = [...document.querySelectorAll(".voice rect")].map((box) => {
  const start = +box.getAttribute("x");
  return { box, start, end: start + +box.getAttribute("width") };
});
const chords = [...document.querySelectorAll(".chords span")].map((name) => {
  return { name, start: +name.dataset.start, end: +name.dataset.end };
});
const calm = matchMedia("(prefers-reduced-motion: reduce)");
root.classList.add("js");
audio.controls = false;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const clock = (seconds) => Math.floor(seconds / 60) + ":" + String(Math.floor(seconds % 60)).padStart(2, "0");
const now = () => (clamp(audio.currentTime, 0, score.seconds) / score.seconds) * score.steps;
const say = (message) => (by("status").textContent = message);

let shown = -1, handsOff = 0, pinned = null, dragging = null;

function place(step) {
  if (score.unit === "second") return "second " + Math.floor(step / score.bar);
  const [bar, start, , beat] = score.bars.find(([, , end]) => step < end) ?? score.bars.at(-1);
  const inside = bar ? step - start : score.bar - score.upbeat + step;
  return (bar ? "bar " + bar : "upbeat") + ", beat " + (Math.floor(inside / beat) + 1);
}

function draw() {
  const step = now(), share = (100 * step) / score.steps;
  for (const cursor of cursors) cursor.style.left = share + "%";
  const whole = Math.floor(step + 1e-4); // audio elements round their time
  by("time").textContent = clock(clamp(audio.currentTime, 0, score.seconds)) + " / " + clock(score.seconds);
  if (whole !== shown) {
    shown = whole;
    const inside = Math.min(whole, score.steps - 1), text = place(inside);
    by("place").textContent = text[0].toUpperCase() + text.slice(1);
    overview.setAttribute("aria-valuenow", Math.floor(whole / score.beat));
    const chord = chords.find(({ start, end }) => start <= inside && inside < end);
    overview.setAttribute("aria-valuetext", text + (chord ? ", " + chord.name.textContent : ""));
    const live = whole > 0 || !audio.paused; // nothing sounds before the first play
    for (const note of notes) note.box.classList.toggle("on", live && note.start <= whole && whole < note.end);
    for (const one of chords) one.name.classList.toggle("on", live && one === chord);
  }
}

function frame() {
  draw();
  follow();
  if (!audio.paused) requestAnimationFrame(frame);
}

function follow(always) {
  // scroll when the cursor leaves the view, unless the user has just scrolled
  if (!always && performance.now() < handsOff) return;
  const at = (now() / score.steps) * sheet.clientWidth, left = scroller.scrollLeft, width = scroller.clientWidth;
  if (at >= left && at <= left + 0.9 * width) return;
  const target = clamp(at - 0.08 * width, 0, sheet.clientWidth - width);
  if (Math.abs(target - left) < 2 || Math.abs(target - follow.target) < 2 && performance.now() < follow.until) return;
  follow.target = target;
  follow.until = performance.now() + 900;
  scroller.scrollTo({ left: target, behavior: calm.matches || always ? "auto" : "smooth" });
}

function seek(step, turn = true) {
  audio.currentTime = (clamp(step, 0, score.steps) / score.steps) * score.seconds;
  handsOff = 0;
  draw();
  if (turn) follow(true);
}

const barLines = score.bars.map(([, start]) => start);
const beatLines = score.bars.flatMap(([number, start, end, beat]) => {
  const origin = number ? start : end - score.bar; // an upbeat is the end of a bar
  const steps = Array.from({ length: Math.ceil((end - origin) / beat) }, (_, n) => origin + n * beat);
  return [start, ...steps.filter((step) => step > start)];
});

function jump(direction, lines) {
  // to the next line of the grid; backwards, just after a line, to the line before it
  const at = now();
  if (direction > 0) return seek(lines.find((line) => line > at + 1e-3) ?? score.steps);
  seek(lines.filter((line) => line < at - (audio.paused ? 1e-3 : 0.35 * score.beat)).at(-1) ?? 0);
}

function toggle() {
  if (!audio.paused) return audio.pause();
  if (audio.currentTime >= score.seconds - 0.02) audio.currentTime = 0;
  audio.play().then(() => say(""), (error) => error.name !== "AbortError" && say("Can't play the sound: " + error.message));
}

function state() {
  root.classList.toggle("playing", !audio.paused);
  play.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  requestAnimationFrame(frame);
}

for (const name of ["play", "pause", "ended", "seeked", "loadedmetadata"]) audio.addEventListener(name, state);
audio.addEventListener("error", () => {
  // some browsers refuse long data URLs: use a blob of the same bytes
  if (!audio.src.startsWith("data:")) return say("This browser can't play the sound; only the notes are shown.");
  const bytes = Uint8Array.from(atob(audio.src.slice(audio.src.indexOf(",") + 1)), (c) => c.charCodeAt(0));
  audio.src = URL.createObjectURL(new Blob([bytes], { type: "audio/wav" }));
});
play.addEventListener("click", toggle);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input")) return;
  const onSlider = event.target === overview;
  const lines = event.shiftKey ? barLines : beatLines;
  if (event.key === " ") {
    if (event.target.closest("button")) return; // buttons handle their own clicks
    toggle();
  } else if (event.key === "ArrowLeft") jump(-1, lines);
  else if (event.key === "ArrowRight") jump(1, lines);
  else if (onSlider && (event.key === "ArrowDown" || event.key === "PageDown")) jump(-1, barLines);
  else if (onSlider && (event.key === "ArrowUp" || event.key === "PageUp")) jump(1, barLines);
  else if (event.key === "Home") seek(0);
  else if (event.key === "End") seek(score.steps);
  else return;
  event.preventDefault();
});

function pointAt(event) {
  const box = dragging.getBoundingClientRect();
  seek(((event.clientX - box.left) / box.width) * score.steps, dragging === overview);
}
for (const area of [sheet, overview]) {
  area.addEventListener("pointerdown", (event) => {
    // touch scrolls the sheet; a tap arrives as a click
    if (event.button || (area === sheet && event.pointerType !== "mouse")) return;
    dragging = area;
    area.setPointerCapture(event.pointerId);
    pointAt(event);
  });
  area.addEventListener("pointermove", (event) => dragging === area && pointAt(event));
  for (const end of ["pointerup", "pointercancel"]) area.addEventListener(end, () => (dragging = null));
}
sheet.addEventListener("click", (event) => {
  dragging = sheet;
  pointAt(event);
  dragging = null;
});
for (const name of ["wheel", "touchmove"]) {
  scroller.addEventListener(name, () => (handsOff = performance.now() + 3000), { passive: true });
}

function highlight(voice) {
  for (const group of voices) group.classList.toggle("dim", voice !== null && group.dataset.voice !== voice);
}
for (const button of legend) {
  const voice = button.dataset.voice;
  button.addEventListener("click", () => {
    pinned = pinned === voice ? null : voice;
    for (const other of legend) other.setAttribute("aria-pressed", other.dataset.voice === pinned);
    highlight(pinned);
  });
}
for (const item of [...legend, ...voices]) {
  for (const name of ["pointerenter", "focus"]) item.addEventListener(name, () => highlight(item.dataset.voice));
  for (const name of ["pointerleave", "blur"]) item.addEventListener(name, () => highlight(pinned));
}

function pane() {
  const width = sheet.clientWidth, part = by("window");
  part.hidden = width <= scroller.clientWidth + 1;
  part.style.left = (100 * scroller.scrollLeft) / width + "%";
  part.style.width = (100 * scroller.clientWidth) / width + "%";
}
scroller.addEventListener("scroll", pane, { passive: true });
addEventListener("resize", pane);
pane();
draw();
