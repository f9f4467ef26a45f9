// What is seen is what the link holds, nothing else: the fields' texts, the view, which of several texts, the sliders
// that were moved, the words that were taken out, and which examples are listed. No DOM here.

/** What examples are found by, as the page's controls and the link call it. */
export const FILTERS = ["gold", "predicted", "correctness", "archive", "models", "word", "sort"];

/** The state in which nothing is changed. `fields` has the fields' texts by name. */
export function stateOf(served, fields) {
  const view = served.task.views[0].name;
  const filters = Object.fromEntries(FILTERS.map((name) => [name, ""]));
  const seen = { view, text: 0, values: {}, without: {}, influence: false, selfAttention: "", head: 0 };
  return { fields, filters, item: null, ...seen }; // the page of examples that has the item of this number
}

export function linkOf(state) {
  const parameters = new URLSearchParams();
  for (const [name, text] of Object.entries(state.fields)) if (text) parameters.set(name, text);
  parameters.set("direction", state.view);
  if (state.text) parameters.set("text", state.text);
  if (state.influence) parameters.set("influence", 1);
  if (state.selfAttention) parameters.set("self", state.selfAttention);
  if (state.head) parameters.set("head", state.head);
  for (const [text, positions] of Object.entries(state.without)) {
    if (positions.length) parameters.set(`without.${text}`, positions.join(","));
  }
  for (const [archive, ofArchive] of Object.entries(state.values)) {
    for (const [name, value] of Object.entries(ofArchive)) parameters.set(`${archive}.${name}`, value);
  }
  for (const [name, value] of Object.entries(state.filters)) if (value) parameters.set(name, value);
  if (state.item) parameters.set("item", state.item);
  return `#${parameters}`;
}

/**
 * The state that a link holds, what of the link does not fit what is served, and whether it has texts. `fields` are the
 * texts of a link that has none.
 */
export function readLink(hash, served, fields) {
  const parameters = new URLSearchParams(hash.slice(1));
  const names = served.task.fields.map(({ name }) => name);
  // A link to one text is not filled up with the others of an example.
  const blank = Object.fromEntries(names.map((name) => [name, ""]));
  const hasTexts = names.some((name) => parameters.has(name));
  const state = stateOf(served, hasTexts ? blank : { ...fields });
  const passedOver = [];
  for (const [key, text] of parameters) {
    if (!readParameter(state, served, key, text)) passedOver.push(`${key}=${text}`);
  }
  return { state, passedOver, hasTexts };
}

function readParameter(state, served, key, text) {
  const [, of, name] = /^(.*)\.(.*)$/s.exec(key) ?? [null, null, key];
  if (key in state.fields) {
    state.fields[key] = text;
  } else if (key === "direction") {
    if (!served.task.views.some((view) => view.name === text)) return false;
    state.view = text;
  } else if (key === "text") {
    if (!/^\d{1,3}$/.test(text)) return false;
    state.text = Number(text);
  } else if (key === "self") {
    if (!selfAttentionOf(served).includes(text)) return false;
    state.selfAttention = text;
  } else if (key === "head") {
    if (!/^\d{1,3}$/.test(text)) return false;
    state.head = Number(text);
  } else if (key === "item") {
    if (!/^[1-9]\d{0,8}$/.test(text)) return false;
    state.item = Number(text);
  } else if (FILTERS.includes(key)) {
    // Which answers the models give is told by the examples.
    const choices = served.choices[key];
    if (choices && !choices.includes(text)) return false;
    state.filters[key] = text;
  } else if (key === "influence") {
    state.influence = text === "1";
    return state.influence;
  } else if (of === "without") {
    if (!/^\d{1,6}(,\d{1,6})*$/.test(text)) return false;
    state.without[name] = text.split(",").map(Number);
  } else {
    const archive = served.archives.find((one) => one.name === of);
    const parameter = archive?.parameters.find((one) => one.name === name);
    const value = text.trim() ? Number(text) : NaN;
    if (!parameter || !isAllowed(parameter, value)) return false;
    setValue(state.values, archive, parameter, value);
  }
  return true;
}

/** The layers of self-attention that any archive has, as "premise_to_premise.0". */
export function selfAttentionOf({ archives }) {
  const all = archives.flatMap(({ self_attention: layers }) =>
    Object.entries(layers).flatMap(([direction, heads]) => heads.map((_, layer) => `${direction}.${layer}`)),
  );
  return [...new Set(all)];
}

function isAllowed({ lower_bound: lower, upper_bound: upper, may_be_lower_bound: mayBeLower }, value) {
  return (mayBeLower ? value >= lower : value > lower) && value <= upper;
}

export function setValue(values, archive, parameter, value) {
  values[archive.name] = { ...values[archive.name], [parameter.name]: value };
  if (value === parameter.trained) delete values[archive.name][parameter.name];
}

export function valueOf(values, archive, parameter) {
  return values[archive.name]?.[parameter.name] ?? parameter.trained;
}

/** Whether anything is other than the models were trained, or a word is missing. */
export function isChanged({ values, without }) {
  return [...Object.values(values).map(Object.keys), ...Object.values(without)].some(({ length }) => length > 0);
}
