// The page's state is what its link holds: the sentences, the direction, and each slider that was moved. Every change
// goes the same way: into the state, after a moment into the link and to the server, from the answer to the page.

const EXAMPLES = [
  ["A brown dog is sleeping in the garden.", "An animal is sleeping in the garden."],
  ["Two children are running on the beach.", "Two children are moving on the beach."],
  ["A woman is reading a book in the library.", "A woman is buying a book."],
  ["A man in a red coat is playing a guitar.", "A tall man is playing an expensive guitar."],
];
const DIRECTIONS = ["hypothesis_to_premise", "premise_to_hypothesis"];

// From one slider step to the next a value's distance from its lower bound grows by a 20th of a power of ten, and the
// trained value is in the middle: it can be a hundredth to a hundredfold of what was trained.
const STEPS_OF_TEN = 20;
const STEPS = 2 * STEPS_OF_TEN;
// The distance in the middle where the trained value is the lower bound itself.
const DISTANCE_FROM_THE_BOUND = 0.1;

// In rem: a card without its map, a column of a map as page.css has it, and the map's row words with the gap between cards.
const LEAST_CARD_WIDTH = 16;
const COLUMN_WIDTH = 1.4;
const WORDS_WIDTH = 6.2;

const MILLISECONDS_BEFORE_ASKING = 150;

const byId = (id) => document.getElementById(id);

let archives = []; // as the server describes them
let cards = new Map(); // by archive: what of its card changes
let state = defaultState();
let lastChanged = null; // the control; further changes of it are the same step of the browser's history
let timer = null;
let pending = null; // the AbortController of the request under way
let answer = null;

function defaultState() {
  const [premise, hypothesis] = EXAMPLES[0];
  return { premise, hypothesis, direction: DIRECTIONS[0], values: {} };
}

// --- The link ---

function linkOf({ premise, hypothesis, direction, values }) {
  const parameters = new URLSearchParams({ premise, hypothesis, direction });
  for (const [archive, ofArchive] of Object.entries(values)) {
    for (const [name, value] of Object.entries(ofArchive)) parameters.set(`${archive}.${name}`, value);
  }
  return `#${parameters}`;
}

/** The state that a link holds, and what of the link does not fit the models that are loaded. */
function readLink(hash) {
  const read = defaultState();
  const passedOver = [];
  const parameters = new URLSearchParams(hash.slice(1));
  // A link to one sentence is not filled up with the other of an example.
  if (parameters.has("premise") || parameters.has("hypothesis")) read.premise = read.hypothesis = "";
  for (const [key, text] of parameters) {
    if (key === "premise" || key === "hypothesis") {
      read[key] = text;
    } else if (key === "direction" && DIRECTIONS.includes(text)) {
      read.direction = text;
    } else {
      const archive = archives.find(({ name }) => name === key.slice(0, key.lastIndexOf(".")));
      const parameter = archive?.parameters.find(({ name }) => name === key.slice(key.lastIndexOf(".") + 1));
      const value = Number(text);
      if (parameter && text.trim() && Number.isFinite(value)) setValue(read.values, archive, parameter, value);
      else passedOver.push(`${key}=${text}`);
    }
  }
  return { read, passedOver };
}

function openLink() {
  const { read, passedOver } = readLink(location.hash);
  state = read;
  lastChanged = null;
  byId("notice").textContent = passedOver.length
    ? `Of the link, this does not fit what is loaded here and was passed over: ${passedOver.join(", ")}`
    : "";
  showState();
  ask();
}

function writeLink(changed) {
  const link = linkOf(state);
  if (link === location.hash) return;
  if (changed === lastChanged) history.replaceState(null, "", link);
  else history.pushState(null, "", link);
  lastChanged = changed;
}

// --- Values and slider positions ---

function setValue(values, archive, parameter, value) {
  values[archive.name] = { ...values[archive.name], [parameter.name]: value };
  if (value === parameter.trained) delete values[archive.name][parameter.name];
}

function valueOf(archive, parameter) {
  return state.values[archive.name]?.[parameter.name] ?? parameter.trained;
}

function middleDistance(parameter) {
  return parameter.trained - parameter.lower_bound || DISTANCE_FROM_THE_BOUND;
}

function valueAt(parameter, position) {
  if (position === trainedPosition(parameter)) return parameter.trained;
  if (position < -STEPS) return parameter.lower_bound;
  const value = parameter.lower_bound + middleDistance(parameter) * 10 ** (position / STEPS_OF_TEN);
  return rounded(value); // so that what is shown is what is used
}

function positionOf(parameter, value) {
  const distance = value - parameter.lower_bound;
  if (distance <= 0) return lowestPosition(parameter);
  const position = Math.round(STEPS_OF_TEN * Math.log10(distance / middleDistance(parameter)));
  return Math.min(Math.max(position, -STEPS), STEPS);
}

function trainedPosition(parameter) {
  return parameter.trained === parameter.lower_bound ? lowestPosition(parameter) : 0;
}

/** One step more for the lower bound itself, which the logarithm never reaches. */
function lowestPosition(parameter) {
  return parameter.may_be_lower_bound ? -STEPS - 1 : -STEPS;
}

function rounded(value) {
  return Number(value.toPrecision(3));
}

// --- Asking the server ---

function changeTo(changed) {
  byId("notice").textContent = "";
  clearTimeout(timer);
  pending?.abort(); // an answer to what is shown no more
  timer = setTimeout(() => {
    writeLink(changed);
    ask();
  }, MILLISECONDS_BEFORE_ASKING);
}

async function ask() {
  clearTimeout(timer);
  pending?.abort();
  if (!state.premise.trim() || !state.hypothesis.trim()) {
    showProblem("", "Type a premise and a hypothesis.");
    return;
  }
  const request = (pending = new AbortController());
  byId("archives").setAttribute("aria-busy", "true");
  try {
    const { premise, hypothesis, values: regularization } = state;
    const received = await fetchJson("api/attention", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ premise, hypothesis, regularization }),
      signal: request.signal,
    });
    if (request === pending) showAnswer(received);
  } catch (error) {
    if (request === pending && error.name !== "AbortError") showProblem(error.message, "");
  }
}

async function fetchJson(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const received = await response.json();
  if (!response.ok) throw new Error(received.error);
  return received;
}

// --- Showing ---

function showState() {
  byId("premise").value = state.premise;
  byId("hypothesis").value = state.hypothesis;
  document.querySelector(`#direction [value="${state.direction}"]`).checked = true;
  for (const archive of archives) {
    for (const parameter of archive.parameters) showSlider(archive, parameter);
  }
}

function showSlider(archive, parameter) {
  const { input, output } = cards.get(archive.name).sliders.get(parameter.name);
  const value = valueOf(archive, parameter);
  const [text, trained] = [String(rounded(value)), String(rounded(parameter.trained))];
  input.value = positionOf(parameter, value);
  input.setAttribute("aria-valuetext", value === parameter.trained ? `${text}, as trained` : `${text}, trained ${trained}`);
  output.textContent = text;
  output.classList.toggle("moved", value !== parameter.trained);
}

function showAnswer(received) {
  answer = received;
  byId("error").textContent = "";
  byId("status").textContent = summary(answer);
  for (const { name, label, probabilities } of answer.archives) {
    cards.get(name).probabilities.replaceChildren(
      ...Object.keys(probabilities).sort().map((each) => probabilityBar(each, probabilities[each], each === label)),
    );
  }
  showMaps();
  byId("archives").setAttribute("aria-busy", "false");
}

function showMaps() {
  const [rowTitle, columnTitle] = state.direction.split("_to_");
  for (const archive of answer?.archives ?? []) {
    const { right_to_left: rightToLeft, ...map } = archive[state.direction];
    renderHeatMap(cards.get(archive.name).map, { ...map, rightToLeft, rowTitle, columnTitle });
  }
  arrangeCards();
}

/** As many cards side by side as the sentences leave room for, and in all rows as equally many as can be. */
function arrangeCards() {
  const longest = Math.max(0, ...(answer?.archives ?? []).map((archive) => archive[state.direction].columns.length));
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const width = rem * Math.max(LEAST_CARD_WIDTH, longest * COLUMN_WIDTH + WORDS_WIDTH);
  const fitting = Math.max(1, Math.floor(byId("archives").clientWidth / width));
  const numRows = Math.ceil(archives.length / fitting);
  byId("archives").style.setProperty("--cards-in-a-row", Math.ceil(archives.length / numRows) || 1);
}

/** Without an answer there is nothing to show: what was there before belongs to other sentences or values. */
function showProblem(error, status) {
  answer = null;
  byId("error").textContent = error;
  byId("status").textContent = status;
  byId("archives").setAttribute("aria-busy", "false");
  for (const { probabilities, map } of cards.values()) {
    probabilities.replaceChildren();
    map.replaceChildren();
  }
}

function summary({ archives: answers }) {
  const labels = [...new Set(answers.map(({ label }) => label))];
  const sayingIt = (wanted) =>
    answers
      .filter(({ label }) => label === wanted)
      .map(({ name, label, probabilities }) => `${name} ${probabilities[label].toFixed(3)}`)
      .join(", ");
  return labels.map((label) => `${label}: ${sayingIt(label)}`).join("; ");
}

function probabilityBar(label, probability, isMostProbable) {
  const line = createElement("li", { class: isMostProbable ? "most-probable" : "" });
  const bar = createElement("span", { class: "bar" });
  bar.style.setProperty("--probability", probability);
  line.append(
    createElement("span", {}, label),
    bar,
    createElement("span", { class: "number" }, probability.toFixed(3)),
  );
  return line;
}

// --- Building ---

function createCard(archive, index) {
  const card = createElement("article", { "aria-labelledby": `archive-${index}` });
  const heading = createElement("h2", { id: `archive-${index}` }, archive.name);
  if (archive.operator !== archive.name) heading.append(" ", createElement("small", {}, archive.operator));
  const probabilities = createElement("ul", { class: "probabilities", "aria-label": "Probabilities" });
  const sliders = createElement("div", { class: "sliders" });
  const parts = { probabilities, map: createElement("div"), sliders: new Map() };
  for (const parameter of archive.parameters) {
    sliders.append(createSlider(archive, parameter, `slider-${index}-${parameter.name}`, parts));
  }
  card.append(heading, probabilities, sliders, parts.map);
  cards.set(archive.name, parts);
  return card;
}

function createSlider(archive, parameter, id, parts) {
  const line = createElement("div", { class: "slider" });
  const label = createElement("label", { for: id }, parameter.name);
  label.append(createElement("span", { class: "for-screen-readers" }, ` of ${archive.name}`));
  const [min, max] = [lowestPosition(parameter), STEPS];
  const input = createElement("input", { id, type: "range", min, max, step: 1 });
  line.style.setProperty("--trained", (trainedPosition(parameter) - min) / (max - min));
  const output = createElement("output", { for: id });
  // Not read out at each step: the slider says its value itself.
  output.setAttribute("aria-live", "off");
  const trained = createElement("span", { class: "trained", "aria-hidden": "true" }, `\u25b4 trained ${rounded(parameter.trained)}`);
  input.addEventListener("input", () => moveSlider(archive, parameter, Number(input.value)));
  parts.sliders.set(parameter.name, { input, output });
  line.append(label, input, output, trained);
  return line;
}

/** Moved together, sliders move to the same place: to the same multiple of what each model was trained with. */
function moveSlider(archive, parameter, position) {
  const moved = byId("together").checked ? archives : [archive];
  for (const other of moved) {
    const same = other.parameters.find(({ name }) => name === parameter.name);
    if (!same) continue;
    setValue(state.values, other, same, valueAt(same, Math.max(position, lowestPosition(same))));
    showSlider(other, same);
  }
  changeTo(`${archive.name}.${parameter.name}`);
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

async function start() {
  try {
    ({ archives } = await fetchJson("api/archives"));
  } catch (error) {
    showProblem(error.message, "");
    return;
  }
  byId("archives").replaceChildren(...archives.map(createCard));
  for (const key of ["premise", "hypothesis"]) {
    byId(key).disabled = false; // until now, what is typed would have been lost
    byId(key).addEventListener("input", (event) => {
      state[key] = event.target.value;
      changeTo(key);
    });
  }
  EXAMPLES.forEach(([premise, hypothesis]) => {
    const button = createElement("button", { type: "button" });
    button.append(createElement("span", {}, premise), " ", createElement("span", {}, hypothesis));
    button.addEventListener("click", () => {
      Object.assign(state, { premise, hypothesis });
      showState();
      changeTo(`example: ${premise}`);
    });
    byId("examples").append(button);
  });
  byId("direction").addEventListener("change", (event) => {
    state.direction = event.target.value;
    writeLink(`direction: ${state.direction}`);
    showMaps(); // the answer has both directions
  });
  byId("reset").addEventListener("click", () => {
    state.values = {};
    showState();
    changeTo("reset");
  });
  byId("copy").addEventListener("click", copyLink);
  byId("pair").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("popstate", openLink);
  window.addEventListener("resize", arrangeCards);
  openLink();
}

start();
