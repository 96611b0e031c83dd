
// --- explanations of answers ---

const BEST = 5, DEEPEST = 55; // choices shown; opacity of the largest contribution in per cent

function marked(text, tokens, values) {
  // the text with coloured tokens; only the tokens if they aren't substrings of the text
  const most = Math.max(...values.map(Math.abs)) || 1, found = [];
  const span = (token, n) => {
    const node = make("span", { class: values[n] < 0 ? "against" : "for", title: (values[n] < 0 ? "" : "+") + values[n].toPrecision(3) }, token);
    node.style.setProperty("--share", (DEEPEST * Math.abs(values[n])) / most);
    return node;
  };
  let at = 0;
  for (const [n, token] of tokens.entries()) {
    const start = text.indexOf(token, at);
    if (start < 0 || text.slice(at, start).trim()) return tokens.flatMap((one, k) => [span(one, k), " "]);
    found.push(text.slice(at, start), span(token, n));
    at = start + token.length;
  }
  return [...found, text.slice(at)];
}

function because(input, { answer, choices, positions, totals, matrix }) {
  const looked = !!matrix && !totals.length; // attention weights, which have no sign
  const lines = matrix?.values ?? (totals.length ? [positions.map((one) => one.contribution)] : []);
  const of = matrix?.rows ?? totals.map((one) => one.output), tokens = matrix?.columns ?? positions.map((one) => one.token);
  const node = make("article", { class: "item" }, make("h2", {}, [answer.label ?? answer.text ?? answer.tags].flat().join(" ")));
  if (lines.length) {
    const text = make("p", { class: "marked" }), pick = make("select");
    fill(pick, of.map((name, n) => [n, name]));
    const draw = () => text.replaceChildren(...marked(input, tokens, lines[pick.value]));
    pick.addEventListener("change", draw);
    draw();
    if (lines.length > 1) node.append(make("label", {}, looked ? "Attention while writing" : "Contributions to", pick));
    const sign = (kind, said) => make("span", { class: kind + " legend" }, said);
    const key = looked ? [sign("for", "attention")] : [sign("for", "for " + (lines.length > 1 ? "it" : of[0])), " ", sign("against", "against"), ", in nats"];
    node.append(text, make("p", { class: "note" }, ...key, "; point at a token to see its number."));
  }
  const sure = choices.slice(0, BEST).map((one) => [[one.label ?? one.text], one.probability ?? Math.exp(one.log_probability)]);
  const bars = sure.length ? sure : positions.map((one) => [[one.token, one.tag], one.probability]);
  const row = ([names, value]) => make("tr", {}, ...names.map((name) => make("td", {}, String(name))), make("td", {}, make("meter", { value, "aria-label": "probability" }), " " + +value.toPrecision(3)));
  node.append(make("div", { class: "scroll bars", tabindex: "0", role: "group", "aria-label": "Probabilities" }, make("table", {}, make("tbody", {}, ...bars.map(row)))));
  return node;
}
