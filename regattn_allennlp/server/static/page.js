// Every change goes the same way: into the state, after a moment into the link, to the server, and from the answer to
// the page. One request is under way at a time. While it is, changes wait; then the latest state goes, and no other.

import { drawAnswer, drawHeads, drawInfluence, partOf, said } from "./answers.js";
import { FILTERS, isChanged, linkOf, readLink, selfAttentionOf, setValue, stateOf, valueOf } from "./link.js";
import { STEPS, lowestPosition, positionOf, rounded, trainedPosition, valueAt } from "./slider.js";

// In rem: a card without its map, a column of a map as page.css has it, and the map's row words with the gap between
// cards.
const LEAST_CARD_WIDTH = 16;
const COLUMN_WIDTH = 1.4;
const WORDS_WIDTH = 6.2;

const EXAMPLES_AT_A_TIME = 8;
const MILLISECONDS_BETWEEN_LOOKS = 1000; // at how many examples are predicted

// Of each filter, how to say that it does not matter.
const WHATEVER = {
  gold: "all",
  predicted: "all",
  correctness: "all",
  archive: "any model",
  models: "agree or not",
  sort: "as in the file",
};

// Who types has not finished a sentence with each letter; who moves a slider wants to see the maps move.
const MILLISECONDS_AFTER_TYPING = 150;
const MILLISECONDS_BETWEEN_REQUESTS = 100;
const MILLISECONDS_BEFORE_THE_LINK = 250;

const byId = (id) => document.getElementById(id);

let served = null; // what the server says of itself
let cards = new Map(); // by archive: what of its card changes
let state = null;
let firstFields = {}; // what a link without texts shows
let gold = null; // of the example that is shown
let listed = null; // the page of examples, as the server tells it
let numAsked = 0; // pages of examples, so far
let startAsked = null; // of the page of examples that is under way
let lookTimer = null;

let passedOver = []; // of the link
let lastChanged = null; // the control; further changes of it are the same step of the browser's history
let linkTimer = null;
let typingTimer = null;
let isWanted = false; // whether the state has changed since it was asked about
let isAsking = false;
let underWay = null; // the AbortController of the request
let lastAsked = -Infinity;
let shown = null; // { state, answer } of what is on the page
let trained = null; // { key, answer }: the same fields, nothing changed

// --- The link ---

async function openLink() {
  const link = readLink(location.hash, served, firstFields);
  state = link.state;
  gold = null;
  lastChanged = null;
  passedOver = [];
  passOver(link.passedOver);
  showState();
  // A link to an item has its texts from the server.
  const waits = !link.hasTexts && state.item !== null;
  if (!waits) askAbout();
  try {
    await showExamples();
  } catch (error) {
    showProblem(error, "");
  }
  if (state !== link.state || listed === null) return; // another link was opened since, or there is no server
  const item = listed.examples.find(({ number }) => number === state.item);
  if (state.item !== null && !item) {
    passOver([`item=${state.item}`]);
    state.item = null;
  }
  if (waits && item) {
    state.fields = fieldsOf(item);
    showState();
  }
  gold = (isShown(item) ? item : listed.examples.find(isShown))?.gold ?? null;
  if (waits) askAbout();
  if (shown === null || keyOf(shown.state.fields) !== keyOf(state.fields)) return;
  showAnswer(); // with the gold answer
  if (!isAsking) byId("status").textContent = summary();
}

function passOver(parameters) {
  passedOver.push(...parameters);
  byId("notice").textContent = passedOver.length
    ? `Of the link, this does not fit what is loaded here and was passed over: ${passedOver.join(", ")}`
    : "";
}

function writeLinkSoon(changed) {
  clearTimeout(linkTimer);
  linkTimer = setTimeout(() => writeLink(changed), MILLISECONDS_BEFORE_THE_LINK);
}

function writeLink(changed) {
  clearTimeout(linkTimer);
  const link = linkOf(state);
  if (link === location.hash) return;
  if (changed === lastChanged) history.replaceState(null, "", link);
  else history.pushState(null, "", link);
  lastChanged = changed;
}

// --- Asking the server ---

/** Other texts: an answer to the ones before is wanted no more. */
function askAbout() {
  clearTimeout(typingTimer);
  underWay?.abort();
  askSoon();
}

function fieldsChanged(changed) {
  byId("notice").textContent = "";
  state.without = {};
  state.text = 0;
  clearTimeout(typingTimer);
  underWay?.abort();
  writeLinkSoon(changed);
  typingTimer = setTimeout(askSoon, MILLISECONDS_AFTER_TYPING);
}

function changed(what) {
  byId("notice").textContent = "";
  writeLinkSoon(what);
  askSoon();
}

function askSoon() {
  isWanted = true;
  if (!isAsking) askUntilAnswered();
}

async function askUntilAnswered() {
  isAsking = true;
  byId("archives").setAttribute("aria-busy", "true");
  while (isWanted || needsTrained()) {
    await pause(lastAsked + MILLISECONDS_BETWEEN_REQUESTS - performance.now());
    lastAsked = performance.now();
    if (isWanted) await askOnce();
    else await askAsTrained();
  }
  isAsking = false;
  byId("archives").setAttribute("aria-busy", "false");
  if (shown) byId("status").textContent = summary(); // not at each step of a slider: it is read out
}

async function askOnce() {
  isWanted = false;
  const asked = structuredClone(state);
  const missing = served.task.fields.filter((field) => !field.is_optional && !asked.fields[field.name].trim());
  if (missing.length) {
    const all = served.task.fields.filter((field) => !field.is_optional).map(({ title }) => withArticle(title));
    showProblem(null, `Type ${all.join(" and ")}.`);
    return;
  }
  try {
    const answer = await predict(asked);
    if (!isChanged(asked)) trained = { key: keyOf(asked.fields), answer };
    shown = { state: asked, answer };
    showAnswer();
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error, "");
  }
}

/** Beside what is changed stands what the models say unchanged; of each text it is asked once. */
function needsTrained() {
  return shown !== null && isChanged(shown.state) && trained?.key !== keyOf(shown.state.fields);
}

async function askAsTrained() {
  const { fields } = shown.state;
  trained = { key: keyOf(fields), answer: null };
  try {
    trained.answer = await predict(stateOf(served, fields));
    showAnswer();
  } catch (error) {
    // The page is right without it.
    if (error.name !== "AbortError") console.info(error);
  }
}

function keyOf(fields) {
  return JSON.stringify(fields);
}

function requestOf({ fields, values, without, influence, selfAttention }) {
  const given = Object.entries(fields).filter(([, text]) => text.trim());
  const request = { ...Object.fromEntries(given), regularization: values, without, influence };
  const [direction, layer] = selfAttention.split(".");
  return selfAttention ? { ...request, self_attention: { direction, layer: Number(layer) } } : request;
}

function predict(asked) {
  underWay = new AbortController();
  return fetchJson("api/attention", { ...post(requestOf(asked)), signal: underWay.signal });
}

function post(body) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

async function fetchAnswer(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (!response.ok) {
    const { error, field } = await response.json();
    throw Object.assign(new Error(error), { field });
  }
  return response;
}

async function fetchJson(address, options) {
  return (await fetchAnswer(address, options)).json();
}

function pause(milliseconds) {
  return milliseconds > 0 ? new Promise((resolve) => setTimeout(resolve, milliseconds)) : undefined;
}

function withArticle(title) {
  return `${/^[aeiou]/i.test(title) ? "an" : "a"} ${title.toLowerCase()}`;
}

// --- Showing ---

function showState() {
  for (const { name } of served.task.fields) byId(name).value = state.fields[name];
  showFilters();
  markShown();
  const view = document.querySelector(`#views [value="${CSS.escape(state.view)}"]`);
  if (view) view.checked = true;
  byId("influence").checked = state.influence;
  byId("self-attention").value = state.selfAttention;
  for (const archive of served.archives) {
    for (const parameter of archive.parameters) showSlider(archive, parameter);
  }
}

/** The number beside a slider is that of the map, which follows the slider. */
function showSlider(archive, parameter) {
  const { input } = cards.get(archive.name).sliders.get(parameter.name);
  const value = valueOf(state.values, archive, parameter);
  const [text, asTrained] = [String(rounded(value)), String(rounded(parameter.trained))];
  input.value = positionOf(parameter, value);
  const isMoved = value !== parameter.trained;
  input.setAttribute("aria-valuetext", isMoved ? `${text}, trained ${asTrained}` : `${text}, as trained`);
}

function showValues(archive, regularization) {
  for (const parameter of archive.parameters) {
    const { output } = cards.get(archive.name).sliders.get(parameter.name);
    const value = regularization?.[parameter.name];
    output.textContent = value === undefined ? "" : rounded(value);
    output.classList.toggle("moved", value !== undefined && value !== parameter.trained);
  }
}

function showAnswer() {
  showError(null);
  for (const archive of served.archives) {
    const answer = answerOf(archive);
    showValues(archive, answer.regularization);
    showCard(archive, answer);
  }
  showWords();
  arrangeCards();
}

function answerOf(archive) {
  return shown.answer.archives.find(({ name }) => name === archive.name);
}

function trainedAnswerOf(archive) {
  if (!isChanged(shown.state) || trained?.key !== keyOf(shown.state.fields)) return undefined;
  return trained.answer?.archives.find(({ name }) => name === archive.name);
}

function showCard(archive, answer) {
  const { answers, map, influence, selfAttention, index } = cards.get(archive.name);
  keepFocus(answers, () =>
    drawAnswer(answers, answer, trainedAnswerOf(archive), {
      text: state.text, gold, name: `text-of-${index}`, choose: chooseText,
    }),
  );
  const part = partOf(answer, state.text);
  const view = served.task.views.find(({ name }) => name === state.view);
  if (part[view.name]) keepFocus(map, () => drawMap(map, part[view.name], view));
  else map.replaceChildren(createElement("p", { class: "quiet" }, whyThereIsNone(view)));
  drawInfluence(influence, answer, part, [view, ...served.task.views]);
  keepFocus(selfAttention, () => drawSelfAttention(selfAttention, answer.self_attention));
}

function drawSelfAttention(element, maps) {
  element.replaceChildren();
  const asked = shown.state.selfAttention;
  if (!asked) return;
  const [direction, layer] = asked.split(".");
  element.append(createElement("h3", {}, `self-attention: ${direction.replaceAll("_", " ")}, layer ${layer}`));
  if (!maps) {
    element.append(createElement("p", { class: "quiet" }, "This model has none there."));
    return;
  }
  const head = Math.min(state.head, maps.length - 1);
  drawHeads(element, maps, head, chooseHead);
  const map = createElement("div");
  element.append(map);
  const [rows, columns] = direction.split("_to_");
  renderHeatMap(map, mapOf(maps[head], { rows, columns }));
}

/** What heat_map.js draws. */
function mapOf({ right_to_left, unknown_rows, unknown_columns, ...rest }, { rows, columns }) {
  return {
    ...rest,
    rightToLeft: right_to_left,
    unknownRows: unknown_rows,
    unknownColumns: unknown_columns,
    rowTitle: rows,
    columnTitle: columns,
  };
}

function drawMap(element, received, view) {
  if (received.boxes) renderRegions(element, mapOf(received, view));
  else renderHeatMap(element, mapOf(received, view));
  for (const [header, text, position] of headersOf(element, view)) {
    header.classList.toggle("taken-out", Boolean(shown.state.without[text]?.includes(position)));
  }
}

/** The heads of rows and columns, and regions, with the text that they are of and their positions in it. */
function headersOf(element, view) {
  const rows = [...element.querySelectorAll("tbody th")].map((header, row) => [header, view.rows, row]);
  const heads = element.querySelector("thead tr:last-child")?.cells ?? element.querySelectorAll(".region");
  return [...rows, ...[...heads].map((header, column) => [header, view.columns, column])];
}

function whyThereIsNone(view) {
  const target = served.task.fields.find((field) => field.is_optional)?.title.toLowerCase();
  const network = view.name.endsWith("_approximate_posterior") ? " with an inference network" : "";
  const given = target ? `, and ${withArticle(target)}` : "";
  return `There is no ${view.title} here: it wants a latent alignment${network}${given}.`;
}

/** What is drawn anew takes the focus again, if it had it. */
function keepFocus(element, draw) {
  const focusable = () => [...element.querySelectorAll("td, .region, input, button")];
  const index = focusable().indexOf(document.activeElement);
  draw();
  if (index >= 0) focusable()[index]?.focus({ preventScroll: true });
}

/** As many cards side by side as the texts leave room for, and in all rows as equally many as can be. */
function arrangeCards() {
  if (!served) return;
  const maps = (shown?.answer.archives ?? []).map((answer) => partOf(answer, state.text)[state.view]);
  const longest = Math.max(0, ...maps.map((map) => (map && !map.boxes ? map.columns.length : 0)));
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const width = rem * Math.max(LEAST_CARD_WIDTH, longest * COLUMN_WIDTH + WORDS_WIDTH);
  const fitting = Math.max(1, Math.floor(byId("archives").clientWidth / width));
  const numRows = Math.ceil(served.archives.length / fitting);
  byId("archives").style.setProperty("--cards-in-a-row", Math.ceil(served.archives.length / numRows) || 1);
}

/** Without an answer there is nothing to show: what was there before belongs to other texts or values. */
function showProblem(error, status) {
  shown = null;
  showError(error);
  byId("status").textContent = status;
  byId("what-if").hidden = true;
  for (const archive of served?.archives ?? []) {
    const { answers, map, influence, selfAttention } = cards.get(archive.name);
    for (const part of [answers, map, influence, selfAttention]) part.replaceChildren();
    showValues(archive, null);
  }
}

function showError(error) {
  byId("error").textContent = error?.message ?? "";
  for (const { name, hint } of served?.task.fields ?? []) {
    const field = byId(name);
    const isWrong = error?.field === name;
    field.setAttribute("aria-invalid", isWrong);
    const described = [isWrong ? "error" : "", hint ? `${name}-hint` : ""].filter(Boolean).join(" ");
    if (described) field.setAttribute("aria-describedby", described);
    else field.removeAttribute("aria-describedby");
  }
}

function summary() {
  const sayings = served.archives.map((archive) => {
    const answer = answerOf(archive);
    return `${archive.name}: ${said(answer, state.text, trainedAnswerOf(archive))}`;
  });
  return [...sayings, ...(gold === null ? [] : [`gold: ${gold}`])].join("; ");
}

// --- What if ---

/** The words that can be taken out: those of texts that all models split alike. */
function showWords() {
  const ofArchives = shown.answer.archives.map(({ words }) => words);
  const alike = Object.keys(ofArchives[0]).filter((text) =>
    ofArchives.every((words) => JSON.stringify(words[text]) === JSON.stringify(ofArchives[0][text])),
  );
  byId("what-if").hidden = alike.length === 0;
  const toolbars = [...byId("what-if").querySelectorAll("[role=toolbar]")];
  const key = JSON.stringify(alike.map((text) => [text, ofArchives[0][text]]));
  if (byId("what-if").dataset.key !== key) {
    byId("what-if").dataset.key = key;
    for (const toolbar of toolbars) toolbar.remove();
    byId("what-if").append(...alike.map((text) => createWords(text, ofArchives[0][text])));
  }
  for (const button of byId("what-if").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", Boolean(state.without[button.dataset.text]?.includes(Number(button.value))));
  }
}

function createWords(text, words) {
  const toolbar = createElement("div", { class: "words", role: "toolbar", "aria-label": `Take out of the ${text}` });
  toolbar.append(createElement("span", { class: "quiet" }, text));
  const buttons = words.map((word, position) => {
    const attributes = { type: "button", value: position, "data-text": text, tabindex: -1, dir: "auto" };
    const button = createElement("button", attributes, word);
    button.addEventListener("click", () => toggleWord(text, position));
    return button;
  });
  buttons[0]?.setAttribute("tabindex", 0);
  // One stop of the Tab key for all words; the arrow keys go from one to the next.
  toolbar.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    const index = buttons.indexOf(document.activeElement);
    if (!step || index < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const next = Math.min(Math.max(index + step, 0), buttons.length - 1);
    buttons[index].setAttribute("tabindex", -1);
    buttons[next].setAttribute("tabindex", 0);
    buttons[next].focus();
  });
  toolbar.append(...buttons);
  return toolbar;
}

function toggleWord(text, position) {
  const words = shown?.answer.archives[0].words[text];
  if (!words || position >= words.length) return;
  const before = state.without[text] ?? [];
  const after = before.includes(position)
    ? before.filter((other) => other !== position)
    : [...before, position].sort((one, other) => one - other);
  if (after.length === words.length) {
    byId("notice").textContent = "One word has to stay.";
    return;
  }
  state.without = { ...state.without, [text]: after };
  changed(`without ${text} ${position}`);
}

// --- Building ---

function createField({ name, title, is_optional: isOptional, hint, options }) {
  const part = createElement("div");
  const label = createElement("label", { for: name }, title);
  const attributes = { id: name, name, dir: "auto", autocomplete: "off" };
  const input = options
    ? createElement("input", { ...attributes, list: `${name}-options` })
    : createElement("textarea", { ...attributes, rows: 2 });
  if (!isOptional) input.required = true;
  part.append(label, input);
  if (hint) part.append(createElement("p", { id: `${name}-hint`, class: "quiet" }, hint));
  if (options) {
    const list = createElement("datalist", { id: `${name}-options` });
    list.append(...options.map((value) => createElement("option", { value })));
    part.append(list);
  }
  input.addEventListener("input", () => {
    state.fields[name] = input.value;
    gold = null;
    markShown();
    fieldsChanged(name);
  });
  return part;
}

function createView({ name, title }) {
  const label = createElement("label");
  label.append(createElement("input", { type: "radio", name: "view", value: name }), ` ${title}`);
  return label;
}

function createCard(archive, index) {
  const card = createElement("article", { "aria-labelledby": `archive-${index}` });
  const heading = createElement("h2", { id: `archive-${index}` }, archive.name);
  if (archive.operator !== archive.name) heading.append(" ", createElement("small", {}, archive.operator));
  const sliders = createElement("div", { class: "sliders" });
  const parts = {
    index,
    answers: createElement("div"),
    map: createElement("div", { class: "map" }),
    influence: createElement("div"),
    selfAttention: createElement("div"),
    sliders: new Map(),
  };
  for (const parameter of archive.parameters) {
    sliders.append(createSlider(archive, parameter, `slider-${index}-${parameter.name}`, parts));
  }
  if (archive.parameters.length) sliders.append(createExplanations(archive));
  // A click on a word in the map is as good as one on its button.
  parts.map.addEventListener("click", (event) => {
    const view = served.task.views.find(({ name }) => name === state.view);
    const found = headersOf(parts.map, view).find(([header]) => header.contains(event.target));
    if (found) toggleWord(found[1], found[2]);
  });
  card.append(heading, parts.answers, sliders, parts.map, parts.influence, parts.selfAttention);
  cards.set(archive.name, parts);
  return card;
}

function createSlider(archive, parameter, id, parts) {
  const line = createElement("div", { class: "slider" });
  const label = createElement("label", { for: id, title: parameter.explanation }, parameter.name);
  label.append(createElement("span", { class: "for-screen-readers" }, ` of ${archive.name}`));
  const [min, max] = [lowestPosition(parameter), STEPS];
  const input = createElement("input", { id, type: "range", min, max, step: 1 });
  line.style.setProperty("--trained", (trainedPosition(parameter) - min) / (max - min));
  const output = createElement("output", { for: id });
  // Not read out at each step: the slider says its value itself.
  output.setAttribute("aria-live", "off");
  const trainedText = `\u25b4 trained ${rounded(parameter.trained)}`;
  const mark = createElement("span", { class: "trained", "aria-hidden": "true" }, trainedText);
  input.addEventListener("input", () => moveSlider(archive, parameter, Number(input.value)));
  parts.sliders.set(parameter.name, { input, output });
  line.append(label, input, output, mark);
  return line;
}

function createExplanations({ parameters }) {
  const details = createElement("details");
  const names = parameters.map(({ name }) => name).join(" and ");
  details.append(createElement("summary", {}, `What ${names} do${parameters.length > 1 ? "" : "es"}`));
  for (const { name, explanation } of parameters) {
    const line = createElement("p");
    line.append(createElement("b", {}, name), ` ${explanation}`);
    details.append(line);
  }
  return details;
}

/** Moved together, sliders move to the same place: to the same multiple of what each model was trained with. */
function moveSlider(archive, parameter, position) {
  const moved = byId("together").checked ? served.archives : [archive];
  for (const other of moved) {
    const same = other.parameters.find(({ name }) => name === parameter.name);
    if (!same) continue;
    setValue(state.values, other, same, valueAt(same, Math.max(position, lowestPosition(same))));
    showSlider(other, same);
  }
  changed(`${archive.name}.${parameter.name}`);
}

// --- Examples ---

/**
 * Lists the examples that the state asks for: the page with its item, or the one from `start`. Returns whether it is
 * listed: not if another was asked for meanwhile.
 */
async function showExamples(start = 0) {
  clearTimeout(lookTimer);
  const asked = ++numAsked;
  const { word, ...filters } = state.filters;
  const query = new URLSearchParams({ ...filters, search: word, direction: state.view, count: EXAMPLES_AT_A_TIME });
  if (state.item) query.set("item", state.item);
  else query.set("start", start);
  startAsked = state.item ? null : start;
  let answer;
  try {
    answer = await fetchJson(`api/examples?${query}`);
  } finally {
    if (asked === numAsked) startAsked = null;
  }
  if (asked !== numAsked) return false;
  const { predicted, total, answers } = answer;
  const wanted = state.filters.predicted;
  if (wanted && predicted === total && !answers.includes(wanted)) {
    state.filters.predicted = "";
    passOver([`predicted=${wanted}`]);
    showFilters();
    return showExamples(start);
  }
  if (JSON.stringify(answer) !== JSON.stringify(listed)) {
    listed = answer;
    keepFocus(byId("examples"), drawExamples);
  }
  if (predicted < total) {
    const look = () => showExamples(listed.start).catch(() => {}); // the page tells of it where it was asked
    lookTimer = setTimeout(look, MILLISECONDS_BETWEEN_LOOKS);
  }
  return true;
}

function drawExamples() {
  const { found, start, examples, total, predicted, answers } = listed;
  const isAll = total <= EXAMPLES_AT_A_TIME;
  byId("examples").hidden = total === 0;
  byId("find").hidden = isAll && !FILTERS.some((name) => state.filters[name]);
  byId("previous").disabled = start === 0;
  byId("next").disabled = start + examples.length >= found;
  byId("place").textContent = found
    ? `Items ${start + 1} to ${start + examples.length} of ${found}`
    : "There is no such item.";
  byId("progress").textContent = predicted < total ? `predicted: ${withCommas(predicted)} of ${withCommas(total)}` : "";
  setOptions("predicted", answers);
  byId("offered").replaceChildren(...examples.map((example) => createExample(example, !isAll)));
  markShown();
}

function withCommas(number) {
  return number.toLocaleString("en");
}

function setOptions(name, values) {
  const field = byId(name);
  const chosen = state.filters[name];
  // What the link asks for may be answered yet.
  const all = chosen && !values.includes(chosen) ? [...values, chosen] : values;
  const before = [...field.options].slice(1).map((option) => option.value);
  if (!field.length || JSON.stringify(before) !== JSON.stringify(all)) {
    field.replaceChildren(new Option(WHATEVER[name], ""), ...all.map((value) => new Option(value)));
  }
  field.value = chosen;
  field.parentElement.hidden = all.length === 0;
}

function showFilters() {
  byId("word").value = state.filters.word;
  for (const [name, values] of Object.entries(served.choices)) setOptions(name, values);
  setOptions("predicted", listed?.answers ?? []);
}

function createExample(example, isNumbered) {
  const button = createElement("button", { type: "button", "data-number": example.number });
  if (isNumbered) button.append(createElement("small", {}, `${example.number} `));
  for (const text of Object.values(fieldsOf(example))) {
    if (text) button.append(createElement("span", { dir: "auto" }, text), " ");
  }
  if (example.gold !== null) {
    button.append(createElement("small", { class: "gold", dir: "auto" }, `gold: ${example.gold}`), " ");
  }
  for (const { name, text, probability, is_right: isRight } of example.predictions) {
    const saying = createElement("small", {}, `${name}: `);
    saying.append(createElement("bdi", { class: isRight === false ? "wrong" : "" }, text));
    if (probability !== null) saying.append(` ${formatProbability(probability)}`);
    if (isRight === false) saying.append(", wrong");
    button.append(saying, " ");
  }
  button.addEventListener("click", () => {
    state.fields = fieldsOf(example);
    state.item = example.number;
    gold = example.gold;
    fieldsChanged(`example ${example.number}`);
    showState();
  });
  return button;
}

/** That of a long text is too low for decimals. */
function formatProbability(probability) {
  return probability < 0.005 ? probability.toExponential(0) : probability.toFixed(2);
}

/** Whether an example's texts are those in the fields. */
function isShown(example) {
  return example !== undefined && keyOf(fieldsOf(example)) === keyOf(state.fields);
}

function markShown() {
  listed?.examples.forEach((example, index) => {
    const button = byId("offered").children[index];
    if (isShown(example)) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
}

function fieldsOf({ inputs }) {
  return Object.fromEntries(served.task.fields.map(({ name }) => [name, String(inputs[name] ?? "")]));
}

/** Other examples than those that are listed: from this one of them on. */
async function listExamples(start, changed) {
  state.item = null;
  byId("notice").textContent = "";
  try {
    if (!(await showExamples(start))) return;
    if (start) state.item = listed.examples[0]?.number ?? null;
    writeLinkSoon(changed);
  } catch (error) {
    showProblem(error, "");
  }
}

function turnExamples(step) {
  const before = startAsked ?? listed.start;
  const start = Math.max(0, before + step * EXAMPLES_AT_A_TIME);
  if (start !== before && start < listed.found) listExamples(start, `page from ${start}`);
}

// --- Tools ---

function chooseText(index) {
  state.text = index;
  writeLink("text");
  showAnswer(); // the answer has all texts
  byId("status").textContent = summary();
}

function chooseHead(head) {
  state.head = head;
  writeLink("head");
  showAnswer(); // the answer has all heads
}

async function copyLink() {
  writeLink("link");
  lastChanged = null;
  try {
    await navigator.clipboard.writeText(location.href);
    byId("notice").textContent = "The link is copied.";
  } catch {
    // Browsers let pages write to the clipboard only at this machine's own address or over HTTPS.
    byId("notice").textContent = "The browser does not let this page copy; the link is in the address bar.";
  }
}

async function savePicture(format) {
  if (!shown) return;
  const request = requestOf({ ...shown.state, influence: false, selfAttention: "" });
  const body = { ...request, view: state.view, text: state.text, format };
  try {
    const response = await fetchAnswer("api/picture", post(body));
    const href = URL.createObjectURL(await response.blob());
    const link = createElement("a", { href, download: `attention.${format}` });
    link.click();
    URL.revokeObjectURL(link.href);
    byId("notice").textContent = `The picture is saved as attention.${format}.`;
  } catch (error) {
    showError(error);
  }
}

async function start() {
  let example;
  try {
    served = await fetchJson("api/archives");
    ({ examples: [example] } = await fetchJson("api/examples?count=1"));
  } catch (error) {
    showProblem(error, "");
    return;
  }
  byId("subject").textContent = served.task.subject;
  firstFields = example ? fieldsOf(example) : fieldsOf({ inputs: {} });
  for (const field of served.task.fields) byId("fields").append(createField(field));
  byId("views").append(...served.task.views.map(createView));
  byId("views").hidden = served.task.views.length < 2;
  byId("archives").replaceChildren(...served.archives.map(createCard));
  byId("views").addEventListener("change", (event) => {
    state.view = event.target.value;
    showExamples(listed?.start).catch((error) => showProblem(error, "")); // an order by its weights is another
    writeLink(`direction: ${state.view}`);
    if (shown) showAnswer(); // the answer has all views
  });
  byId("influence").addEventListener("change", (event) => {
    state.influence = event.target.checked;
    changed("influence");
  });
  const layers = selfAttentionOf(served);
  byId("self").hidden = layers.length === 0;
  byId("self-attention").append(
    new Option("none", ""),
    ...layers.map((layer) => new Option(layer.replaceAll("_", " ").replace(".", ", layer "), layer)),
  );
  byId("self-attention").addEventListener("change", (event) => {
    state.selfAttention = event.target.value;
    changed("self-attention");
  });
  byId("reset").addEventListener("click", () => {
    state.values = {};
    state.without = {};
    showState();
    changed("reset");
  });
  byId("copy").addEventListener("click", copyLink);
  for (const button of document.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => savePicture(button.dataset.format));
  }
  byId("filters").addEventListener("input", ({ target }) => {
    state.filters[target.id] = target.value;
    listExamples(0, target.id);
  });
  byId("previous").addEventListener("click", () => turnExamples(-1));
  byId("next").addEventListener("click", () => turnExamples(1));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return; // these belong to the browser
    if (event.target.closest("input, select, textarea, [role=toolbar], #archives")) return; // and these to the focus
    if (event.key === "ArrowRight") turnExamples(1);
    else if (event.key === "ArrowLeft") turnExamples(-1);
  });
  byId("form").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("popstate", openLink);
  window.addEventListener("resize", arrangeCards);
  openLink();
}

start();
