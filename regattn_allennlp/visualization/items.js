"use strict";

/**
 * Finds the items worth looking at. An item is {inputs: {name: text}, gold, predictions: [{text, probability, maps}]}:
 * gold is null where no answer is known, probability where the model gives none; the predictions are those of
 * `archives`, the models' names, in this order. A query has, each a text and "" for whatever:
 *
 *   gold          the gold answer; "none" for items without
 *   predicted     an answer that a model gives
 *   correctness   "correct" or "wrong": whether a model's answer is the gold one; without a gold answer it is neither
 *   archive       the model that these two, and the order, are about; else any model, and the mean of all
 *   models        one of `modelChoices`
 *   word          what is in one of the inputs or answers, whatever its case
 *   sort          one of ORDERS
 *   direction     "premise_to_hypothesis": whose weights tell how sparse an item is; else the first
 *
 * Nothing here knows a page.
 */

/** Of each order, its name and by what the items stand; the larger first. */
const ORDERS = {
  "most confident first": (item, query, archives) => [mean(chosen(item, query, archives).map(confidence))],
  "least confident first": (item, query, archives) => [-mean(chosen(item, query, archives).map(confidence))],
  "most disagreement first": (item) => disagreement(item.predictions),
  "sparsest first": (item, query, archives) => [sparsity(item, query, archives)],
  "densest first": (item, query, archives) => [-sparsity(item, query, archives)],
};

/** The positions of the items that a query asks for, in its order. */
function findItems(items, archives, query) {
  const test = modelChoices(archives)[query.models] ?? (() => true);
  const word = folded(query.word);
  const found = items.map((_, position) => position).filter((position) => {
    const item = items[position];
    const isWanted = (prediction) =>
      (query.predicted === "" || prediction.text === query.predicted) &&
      (query.correctness === "" ||
        (item.gold !== null && isRight(item, prediction) === (query.correctness === "correct")));
    return (
      (query.gold === "" || (item.gold ?? "none") === query.gold) &&
      chosen(item, query, archives).some(isWanted) &&
      test(item) &&
      (word === "" || textsOf(item).some((text) => folded(text).includes(word)))
    );
  });
  const order = ORDERS[query.sort];
  if (!order) return found;
  const keys = new Map(found.map((position) => [position, order(items[position], query, archives)]));
  return found.sort((a, b) => {
    const [one, other] = [keys.get(a), keys.get(b)];
    const differing = one.findIndex((value, index) => value !== other[index]);
    return differing < 0 ? a - b : other[differing] - one[differing];
  });
}

/** By their names, tests of what the models say of an item: that they disagree, or that one is right and one wrong. */
function modelChoices(archives) {
  const choices = { disagree: ({ predictions }) => predictions.some(({ text }) => text !== predictions[0].text) };
  archives.forEach((right, index) => {
    archives.forEach((wrong, other) => {
      if (index === other) return;
      choices[`${right} right, ${wrong} wrong`] = (item) =>
        isRight(item, item.predictions[index]) && item.gold !== null && !isRight(item, item.predictions[other]);
    });
  });
  return choices;
}

function isRight(item, prediction) {
  return prediction.text === item.gold;
}

/** How many pairs of models answer differently; where as many do, how far their probabilities are apart. */
function disagreement(predictions) {
  const differing = predictions.flatMap((one, index) =>
    predictions.slice(index + 1).filter((other) => other.text !== one.text),
  );
  const probabilities = predictions.map(confidence);
  return [differing.length, Math.max(...probabilities) - Math.min(...probabilities)];
}

/** The share of the weights that are exactly 0. */
function sparsity(item, query, archives) {
  return mean(
    chosen(item, query, archives).map((prediction) => {
      const weights = mapOf(prediction, query.direction).weights.flat();
      return weights.filter((weight) => weight === 0).length / Math.max(weights.length, 1);
    }),
  );
}

/** The map of a direction; the first where the direction is "". */
function mapOf(prediction, direction) {
  return prediction.maps.find((map) => directionOf(map) === direction) ?? prediction.maps[0];
}

function directionOf(map) {
  return `${map.rowTitle}_to_${map.columnTitle}`;
}

function chosen(item, query, archives) {
  return item.predictions.filter((_, index) => query.archive === "" || archives[index] === query.archive);
}

function confidence(prediction) {
  return prediction.probability ?? 0;
}

function textsOf(item) {
  return [...Object.values(item.inputs), item.gold ?? "", ...item.predictions.map(({ text }) => text)].map(String);
}

/** As "Straße" and "STRASSE" are one word, and an é of one character and one of two. */
function folded(text) {
  return text.normalize("NFC").toUpperCase().toLowerCase().trim();
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
}
