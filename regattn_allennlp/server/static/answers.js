// What of an answer is drawn into an archive's card, whatever the task: an answer has the probabilities of labels, or
// several texts. `trained` is the answer of the same archive as it was trained, to all words; it may be missing.

const ARROW = "\u2192";

/** What has the maps: the answer itself, or of several texts the chosen one, or the last if there are fewer. */
export function partOf(answer, text) {
  return answer.texts ? answer.texts[Math.min(text, answer.texts.length - 1)] : answer;
}

/** What a model says, and how that has changed: "entailment 0.81 -> 0.64". */
export function said(answer, text, trained) {
  if (!answer.texts) {
    const { label, probabilities } = answer;
    return `${label} ${change(probabilities[label], trained?.probabilities[label], (value) => value.toFixed(3))}`;
  }
  const reading = partOf(answer, text);
  return `${reading.text} (log p ${change(reading.log_prob, logProbOf(trained, reading.text), nats)})`;
}

function change(now, before, format) {
  const hasChanged = before !== undefined && format(before) !== format(now);
  return hasChanged ? `${format(before)} ${ARROW} ${format(now)}` : format(now);
}

function logProbOf(answer, text) {
  return answer?.texts.find((reading) => reading.text === text)?.log_prob;
}

function nats(value) {
  return value.toFixed(2).replace("-", "\u2212");
}

/** The answer's part of a card: bars, or texts to choose from by `choose(index)`. */
export function drawAnswer(element, answer, trained, { text, gold, name, choose }) {
  if (!answer.texts) {
    element.replaceChildren(probabilityBars(answer, trained, gold));
    return;
  }
  const chosen = partOf(answer, text);
  element.replaceChildren(textChoice(answer, trained, chosen, name, choose), likelihoods(chosen));
  const best = (one) => one.texts.find((reading) => !reading.is_given).text;
  if (trained && best(trained) !== best(answer)) {
    element.append(createElement("p", { class: "quiet", dir: "auto" }, `As trained it wrote: ${best(trained)}`));
  }
}

function probabilityBars({ label, probabilities }, trained, gold) {
  const list = createElement("ul", { class: "probabilities", "aria-label": "Probabilities" });
  for (const name of Object.keys(probabilities)) {
    const line = createElement("li", { class: name === label ? "most-probable" : "" });
    const before = trained?.probabilities[name];
    const bar = createElement("span", { class: "bar" });
    bar.style.setProperty("--probability", probabilities[name]);
    if (before !== undefined) {
      bar.classList.add("has-trained");
      bar.style.setProperty("--trained", before);
    }
    const title = createElement("span", { class: "name", dir: "auto" }, name);
    if (name === gold) title.append(" ", createElement("small", { class: "gold" }, "gold"));
    const number = change(probabilities[name], before, (value) => value.toFixed(3));
    line.append(title, bar, createElement("span", { class: "number" }, number));
    list.append(line);
  }
  return list;
}

function textChoice(answer, trained, chosen, name, choose) {
  const list = createElement("ol", { class: "texts", "aria-label": "Texts, the best first" });
  answer.texts.forEach((reading, index) => {
    const input = createElement("input", { type: "radio", name });
    input.checked = reading === chosen;
    input.addEventListener("change", () => choose(index));
    const label = createElement("label");
    const text = createElement("span", { dir: "auto" }, reading.text || "(an empty text)");
    if (reading.is_given) text.append(" ", createElement("small", { class: "gold" }, "given"));
    const number = change(reading.log_prob, logProbOf(trained, reading.text), nats);
    label.append(input, text, createElement("span", { class: "number" }, `log p ${number}`));
    const line = createElement("li");
    line.append(label);
    list.append(line);
  });
  return list;
}

/** How likely each token was when it was to be written. */
function likelihoods({ tokens, token_log_probs: logProbs }) {
  const list = createElement("ol", { class: "likelihoods", "aria-label": "Probability of each token" });
  logProbs.forEach((logProb, index) => {
    const probability = Math.exp(logProb);
    const item = createElement("li");
    item.append(
      index < tokens.length
        ? createElement("span", { dir: "auto" }, tokens[index])
        : createElement("em", {}, "end"),
      measure(probability),
      createElement("span", { class: "number" }, shortNumber(probability)),
    );
    list.append(item);
  });
  return list;
}

function measure(share) {
  const bar = createElement("span", { class: "bar" });
  bar.style.setProperty("--probability", share);
  return bar;
}

/** A bar from the middle to the right, or to the left. */
function signedMeasure(share) {
  const bar = measure(share);
  bar.classList.add("signed");
  bar.classList.toggle("negative", share < 0);
  return bar;
}

function shortNumber(value) {
  const text = value.toFixed(2);
  return text === "-0.00" ? "0.00" : text.replace("-", "\u2212");
}

function signedNumber(value) {
  return value.toFixed(2) > 0 ? `+${shortNumber(value)}` : shortNumber(value);
}

/**
 * Of each text its words, with the mean of the weights that they receive in a map, and with gradient x input. The map
 * is the first of the views that has the text as its columns.
 */
export function drawInfluence(element, { influence, words }, part, views) {
  element.replaceChildren();
  for (const text of Object.keys(influence ?? {})) {
    const received = meanWeights(part[views.find((view) => view.columns === text && part[view.name])?.name]);
    const largest = Math.max(...influence[text].map(Math.abs)) || 1;
    const heading = createElement("h3", {}, `${text}: ${received ? "mean attention, and " : ""}gradient \u00d7 input`);
    const list = createElement("ol", { class: "influence" });
    words[text].forEach((word, position) => {
      const value = influence[text][position];
      const item = createElement("li");
      item.append(createElement("span", { dir: "auto" }, word));
      if (received) {
        item.append(measure(received[position]), number("attention", shortNumber(received[position])));
      }
      item.append(signedMeasure(value / largest), number("gradient times input", signedNumber(value)));
      list.append(item);
    });
    element.append(heading, list);
  }
}

function number(what, text) {
  const element = createElement("span", { class: "number" });
  element.append(createElement("span", { class: "for-screen-readers" }, `${what} `), text);
  return element;
}

/** Over the rows that attend: one that was taken out does not. */
function meanWeights(map) {
  if (!map) return null;
  const rows = map.weights.filter((row) => row.some((weight) => weight > 0));
  return map.columns.map((_, column) => rows.reduce((sum, row) => sum + row[column], 0) / rows.length);
}

/** Small maps of the mean of the heads and of each of them, to choose from by `choose(index)`. */
export function drawHeads(element, maps, chosen, choose) {
  const group = createElement("div", { class: "heads", role: "group", "aria-label": "Heads of self-attention" });
  maps.forEach((map, index) => {
    const name = index ? `head ${index - 1}` : "mean";
    const button = createElement("button", { type: "button", "aria-pressed": index === chosen }, name);
    const size = { width: map.columns.length, height: map.rows.length };
    const canvas = createElement("canvas", { ...size, "aria-hidden": "true" });
    button.prepend(canvas);
    button.addEventListener("click", () => choose(index));
    group.append(button);
  });
  element.append(group);
  group.querySelectorAll("canvas").forEach((canvas, index) => {
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(canvas).color; // once it is in the page
    maps[index].weights.forEach((weights, row) =>
      weights.forEach((weight, column) => {
        context.globalAlpha = weight;
        context.fillRect(column, row, 1, 1);
      }),
    );
  });
}
