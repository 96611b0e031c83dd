
"use strict";
// The playground: calls the API that serves it, shows items while they are sampled, and keeps a link to reproduce them.
const by = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const svg = ["svg", "rect"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const OFTEN = ["temperature", "bias", "top_p", "count", "max_length", "seed"];
const OWN_PLACE = ["prompt", "chords", "given", "given_ends"];
// settings with a slider; a value that a slider can't show exactly gets a number field
const SLIDERS = { temperature: [0, 2, 0.01], bias: [0, 5, 0.01], top_p: [0.01, 1, 0.01] };
const A_SERIES = '{"start": "2024-01-01", "values": [1, 2.5, 2]}';
const EXPLAINED = ["classification", "ordinal", "tagging", "translation"]; // tasks
const READ_FROM = { text: "text", symbols: "text", frames: "frames", series: "frames", audio: "wav" };
let models = [], described = null, held = null, running = null, turn = 0;

const say = (message) => (by("status").textContent = message);
const wrong = (message) => (by("problem").textContent = message);
const words = (name) => (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ").replace("Top p", "Top-p").replace("Top k", "Top-k");

async function ask(path, body, signal) {
  const request = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal };
  const answer = await fetch(path, request);
  if (answer.ok) return answer;
  let said = null;
  try { said = await answer.json(); } catch { /* not an error of this API: show the status */ }
  throw new Error(said ? [said.where, said.error, said.hint].filter(Boolean).join(": ") : "the server answered with status " + answer.status);
}

// --- the form ---

function fill(select, values, chosen) {
  select.replaceChildren(...values.map(([value, text]) => make("option", { value }, text)));
  if (values.some(([value]) => value === chosen)) select.value = chosen;
}

function versions(chosen) {
  const model = models.find((one) => one.name === by("model").value);
  const named = (one) => one.version + (one.aliases.length ? " (" + one.aliases.join(", ") + ")" : "");
  fill(by("version"), model ? model.versions.map((one) => [one.version, named(one)]) : [], chosen || model?.default);
}

async function describe(values = {}) {
  const mine = ++turn;
  wrong("");
  described = null;
  by("go").disabled = true;
  try {
    const answer = await ask("/models/" + encodeURIComponent(by("model").value + "@" + by("version").value));
    const found = await answer.json();
    if (mine !== turn) return; // another model was chosen meanwhile
    described = found;
  } catch (error) { return mine === turn && wrong(error.message); }
  by("go").disabled = false;
  show(values);
}

function show(values) {
  const model = described, writes = model.writes !== null;
  const figures = Object.entries(model.metrics).slice(0, 3).map(([name, value]) => name.replace("test/", "").replaceAll("_", " ") + " " + value.toPrecision(3));
  by("about").textContent = [
    writes ? "Writes " + model.writes : "Predicts for " + (model.reads === "audio" ? "recordings" : model.reads) + " (" + model.task.replaceAll("_", " ") + ")",
    model.trained_on && "trained on " + model.trained_on,
    figures.length && "on test data: " + figures.join(", "),
  ].filter(Boolean).join(" · ");
  for (const label of document.querySelectorAll("[data-for]")) {
    label.hidden = writes ? !model.accepts.includes(label.dataset.for) : label.dataset.for !== READ_FROM[model.reads];
  }
  by("asks").hidden = ![...document.querySelectorAll("[data-for]")].some((label) => !label.hidden);
  by("what").textContent = "Input";
  by("knobs").hidden = !writes;
  by("go").textContent = writes ? "Generate" : "Predict";
  by("why").hidden = !EXPLAINED.includes(model.task) || READ_FROM[model.reads] !== "text";
  by("prompt").rows = model.writes === "text" ? 3 : 1;
  by("prompt").value = values.prompt ?? model.settings.prompt?.default ?? "";
  by("chords").value = values.chords ?? model.settings.chords?.default ?? "";
  held = values.given?.length ? { given: values.given, given_ends: values.given_ends ?? false } : null;
  by("held").hidden = !held;
  const names = Object.keys(model.settings).filter((name) => !OWN_PLACE.includes(name));
  const knobs = (list) => list.map((name) => knob(name, name === "seed" ? { type: "integer", minimum: 0, default: null } : model.settings[name], values[name]));
  by("settings").replaceChildren(...knobs(OFTEN.filter((name) => name === "seed" || names.includes(name))));
  const rare = names.filter((name) => !OFTEN.includes(name));
  by("rare").replaceChildren(...knobs(rare));
  by("more").hidden = !rare.length;
  mirror();
}

function knob(name, schema, given) {
  const id = "set-" + name, value = given ?? schema.default, label = make("label", { for: id }, words(name));
  if (schema.enum) {
    const select = make("select", { id, "data-setting": name });
    fill(select, schema.enum.map((one) => [one, one]), value);
    return make("div", { class: "knob" }, label, select);
  }
  if (schema.type === "array") {
    const area = make("textarea", { id, "data-setting": name, "data-kind": "lines", rows: 2, placeholder: "one per line" });
    area.value = (value ?? []).join("\n");
    return make("div", { class: "knob" }, label, area);
  }
  if (schema.type === "boolean") {
    const box = make("input", { id, type: "checkbox", "data-setting": name, "data-kind": "flag" });
    box.checked = value;
    return make("div", { class: "knob" }, label, box);
  }
  if (schema.type === "string") {
    const box = make("input", { id, type: "text", "data-setting": name });
    box.value = value ?? "";
    return make("div", { class: "knob" }, label, box);
  }
  const [low, high, step] = SLIDERS[name] ?? [];
  const slider = step && make("input", { id, type: "range", min: low, max: high, step, value, "data-setting": name, "data-kind": "number" });
  if (slider && +slider.value === value) {
    const output = make("output", { for: id });
    const follow = () => (output.textContent = (+slider.value).toFixed(2));
    slider.addEventListener("input", follow);
    follow();
    return make("div", { class: "knob" }, label, output, slider);
  }
  const box = make("input", {
    id, type: "number", "data-setting": name, "data-kind": "number", step: schema.type === "integer" ? 1 : "any",
    min: schema.minimum ?? (schema.exclusiveMinimum !== undefined && schema.type === "integer" ? schema.exclusiveMinimum + 1 : ""),
    ...(schema.maximum !== undefined && { max: schema.maximum }), ...(name === "seed" && { max: Number.MAX_SAFE_INTEGER, placeholder: "random" }),
  });
  box.value = value ?? "";
  return make("div", { class: "knob" }, label, box);
}

function chosen() {
  // the settings in the form, and the seed (null: random)
  const settings = {};
  for (const field of document.querySelectorAll("[data-setting]")) {
    const kind = field.dataset.kind, text = field.value;
    if (kind === "lines") settings[field.dataset.setting] = text.split("\n").map((line) => line.trim()).filter(Boolean);
    else if (kind === "flag") settings[field.dataset.setting] = field.checked;
    else if (kind !== "number") settings[field.dataset.setting] = text;
    else if (text !== "") settings[field.dataset.setting] = +text;
  }
  const { seed = null, ...rest } = settings;
  if (described.accepts.includes("prompt")) rest.prompt = held ? "" : by("prompt").value;
  if (described.accepts.includes("chords")) rest.chords = by("chords").value;
  return { settings: { ...rest, ...held }, seed };
}

async function file(input) {
  const [one] = input.closest("label").hidden ? [] : input.files;
  if (!one) return null;
  const bytes = new Uint8Array(await one.arrayBuffer());
  let binary = "";
  for (let at = 0; at < bytes.length; at += 8192) binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return { name: one.name, base64: btoa(binary) };
}

// --- results ---

function card(number, count) {
  const body = make("div", { class: "body" });
  const node = make("article", { class: "item", "data-number": number }, make("h2", {}, count > 1 ? "No. " + number : "Result"), body);
  by("results").append(node);
  return { node, body, notes: new Map(), length: 0 };
}

class Roll {
  // notes while they are sampled
  constructor(body) {
    this.svg = make("svg", { preserveAspectRatio: "none", role: "img", "aria-label": "notes as they are sampled" });
    this.notes = new Map();
    body.replaceChildren(this.svg);
  }
  add(piece) {
    for (const [part, start, duration, pitch] of piece.notes) {
      const key = part + ":" + start + ":" + pitch;
      let box = this.notes.get(key);
      if (!box) {
        box = make("rect", { class: "v" + (part % 6), height: 0.9, x: start });
        box.pitch = pitch;
        this.notes.set(key, box);
        this.svg.append(box);
      }
      box.setAttribute("width", Math.max(duration - 0.15, 0.3));
    }
    const pitches = [...this.notes.values()].map((box) => box.pitch);
    const low = Math.min(...pitches) - 2, high = Math.max(...pitches) + 2;
    for (const box of this.notes.values()) box.setAttribute("y", high - box.pitch);
    this.svg.setAttribute("viewBox", "0 0 " + Math.max(64, piece.length_steps) + " " + (high - low + 1));
  }
}

function into() {
  // on a small screen the results begin below it
  if (by("results").getBoundingClientRect().top > innerHeight - 80) by("go").scrollIntoView({ block: "start" });
}

function piece(cards, data) {
  if (!Object.keys(cards).length) into();
  const place = (cards[data.number] ??= card(data.number, 2));
  if (data.notes) (place.roll ??= new Roll(place.body)).add(data);
  else {
    const text = place.body.firstChild ?? place.body.appendChild(make("pre"));
    text.textContent = data.all ?? text.textContent + data.text;
  }
}

function finished(cards, made) {
  by("results").replaceChildren();
  for (const item of made.items) {
    const { node, body } = card(item.number, made.items.length);
    if (item.score && item.files.html) {
      const frame = make("iframe", { title: "Player for piece no. " + item.number, sandbox: "allow-scripts", loading: item.number > 1 ? "lazy" : "eager" });
      body.append(frame);
      if (item.given && described.name === made.model && described.version === made.version) body.append(again(made, item, frame));
      frame.src = item.files.html;
    } else if (item.files.svg) body.append(make("img", { src: item.files.svg, alt: item.text }));
    else body.append(make("pre", {}, item.text || "(nothing)"));
    const facts = make("p", { class: "facts" });
    if (item.nats_per_token !== null) facts.append(make("span", {}, item.nats_per_token.toFixed(3) + " nats per token"));
    facts.append(make("span", {}, item.ended ? "complete" : "cut off at max length"));
    for (const [kind, name] of [["mid", "MIDI"], ["wav", "wav"], ["html", "listening page"], ["svg", "SVG"]]) {
      if (item.files[kind]) facts.append(make("a", { href: item.files[kind], ...(kind !== "html" && { download: made.model + "-" + item.number + "." + kind }) }, name));
    }
    node.append(facts);
  }
  mirror();
  const told = { model: made.model, version: made.version, seed: made.seed, settings: made.settings };
  const hash = "#" + new URLSearchParams({ play: JSON.stringify(told) });
  history.replaceState(null, "", hash);
  by("link").href = hash;
  by("link").hidden = by("copy").hidden = false;
  if (made.warnings.length) wrong(made.warnings.join("; "));
  into();
}

function answered(inputs, made) {
  const columns = Object.keys(made.answers[0] ?? {});
  const shown = (input) => (typeof input === "string" ? input : Array.isArray(input) ? input.length + " steps" : input.values ? (input.name ?? "series") : "recording");
  const cell = (name, value) => {
    if (name !== "probability") return make("td", {}, Array.isArray(value) ? value.map((one) => (typeof one === "number" ? +one.toPrecision(6) : one)).join(" ") : String(value));
    return make("td", {}, make("meter", { value, min: 0, max: 1, "aria-label": "probability" }), " " + value.toFixed(3));
  };
  const rows = made.answers.map((answer, n) => make("tr", {}, make("td", {}, shown(inputs[n])), ...columns.map((name) => cell(name, answer[name]))));
  const head = make("tr", {}, ...["input", ...columns].map((name) => make("th", { scope: "col" }, name)));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  by("results").replaceChildren(make("article", { class: "item" }, make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Answers" }, table)));
  into();
}

// --- requests ---

async function* events(body) {
  // parses server-sent events from a stream: fetch can send a body, EventSource can't
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const [, kind, data] = text.slice(0, end).match(/^event: (.*)\ndata: (.*)$/);
      yield [kind, JSON.parse(data)];
    }
  }
}

async function generate(signal) {
  const { settings, seed } = chosen(), cards = {};
  const [melody, start, keep] = await Promise.all(["melody", "start", "keep"].map((name) => file(by(name))));
  if (melody || start || keep) for (const name of ["given", "given_ends", "prompt", ...(melody ? ["max_length", "constraints"] : [])]) delete settings[name];
  const request = { model: by("model").value + "@" + by("version").value, settings, seed, melody, start, keep };
  const began = performance.now();
  const answer = await ask("/generate/stream", request, signal);
  for await (const [kind, data] of events(answer.body)) {
    if (kind === "piece") piece(cards, data);
    else if (kind === "problem") throw new Error([data.where, data.error, data.hint].filter(Boolean).join(": "));
    else if (kind === "done") {
      finished(cards, data);
      return say("Done in " + ((performance.now() - began) / 1000).toFixed(1) + " s with seed " + data.seed + ".");
    }
  }
  throw new Error("the connection to the server was lost");
}

async function given() {
  // the model's inputs
  let inputs;
  if (described.reads === "audio") {
    const recording = await file(by("wav"));
    if (!recording) throw new Error("Choose a recording first.");
    inputs = [{ wav_base64: recording.base64 }];
  } else if (described.reads === "series") {
    try { inputs = [JSON.parse(by("frames").value)]; } catch { throw new Error("Enter the series as JSON, e.g. " + A_SERIES); }
  } else if (described.reads === "frames") {
    const written = by("frames").value.trim();
    const block = (text) => text.split("\n").map((line) => line.trim().split(/[\s,;]+/).map(Number));
    try { inputs = written.startsWith("[") ? [JSON.parse(written)] : written.split(/\n\s*\n/).map(block); } catch { inputs = [[NaN]]; }
    if (inputs.flat(3).some(Number.isNaN)) throw new Error("Enter one line of numbers per frame.");
  } else inputs = by("texts").value.split("\n").filter((line) => line.trim());
  if (!inputs.length) throw new Error("Enter a text first.");
  return inputs;
}

async function answers(verb, signal) {
  const inputs = await given();
  const answer = await ask("/" + verb, { model: by("model").value + "@" + by("version").value, inputs }, signal);
  const counted = inputs.length + (inputs.length === 1 ? " input." : " inputs.");
  return [inputs, await answer.json(), counted];
}

async function predict(signal) {
  const [inputs, made, counted] = await answers("predict", signal);
  answered(inputs, made);
  say("Predicted " + counted);
  if (made.warnings.length) wrong(made.warnings.join("; "));
}

async function explain(signal) {
  const [inputs, made, counted] = await answers("explain", signal);
  by("results").replaceChildren(...made.explanations.map((one, n) => because(inputs[n], one)));
  into();
  say("Explained " + counted);
  if (made.warnings.length) wrong(made.warnings.join("; "));
}

async function run(work = described?.writes ? generate : predict, over = false) {
  // done: the results stay until there are new ones
  if (running || !described) return;
  running = new AbortController();
  document.body.classList.add("busy");
  by("go").disabled = by("why").disabled = true;
  by("stop").hidden = false;
  by("link").hidden = by("copy").hidden = true;
  if (!over) by("results").replaceChildren();
  wrong("");
  say(described.writes ? "Generating …" : "Predicting …");
  try { await work(running.signal); } catch (error) {
    say("");
    wrong(error.name === "AbortError" ? "Stopped." : error.message);
  } finally {
    const had = document.activeElement === by("stop");
    running = null;
    document.body.classList.remove("busy");
    by("go").disabled = by("why").disabled = false;
    by("stop").hidden = true;
    if (had) by("go").focus();
  }
}

by("form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
by("why").addEventListener("click", () => run(explain));
by("stop").addEventListener("click", () => running?.abort());
by("model").addEventListener("change", () => { versions(); describe(); });
by("version").addEventListener("change", () => describe());
by("drop").addEventListener("click", () => { held = null; by("held").hidden = true; by("prompt").focus(); });
by("copy").addEventListener("click", async () => {
  try { await navigator.clipboard.writeText(location.href); say("Link copied."); } catch { say("Copying failed: copy the link from the address bar."); }
});
by("link").addEventListener("click", (event) => { event.preventDefault(); history.replaceState(null, "", by("link").hash); replay(); });
addEventListener("hashchange", replay);

async function replay() {
  // restores the request in the address
  let told = null;
  try { told = JSON.parse(new URLSearchParams(location.hash.slice(1)).get("play")); } catch { return wrong("This link is incomplete or damaged."); }
  if (!told || typeof told !== "object") return false;
  if (!models.some((one) => one.name === told.model && one.versions.some((v) => v.version === told.version))) {
    return wrong("The link is for " + told.model + " v" + told.version + ", which isn't registered here.");
  }
  by("model").value = told.model;
  versions(told.version);
  await describe({ ...told.settings, seed: told.seed });
  await run();
  return true;
}

(async () => {
  try { models = (await (await ask("/models")).json()).models; } catch (error) { return wrong(error.message); }
  if (!models.length) return wrong("No model is registered yet. Train one: reprise run names");
  fill(by("model"), models.map((one) => [one.name, one.name]));
  by("model").disabled = by("version").disabled = false;
  versions();
  if (!location.hash || (await replay()) === false) await describe();
})();
