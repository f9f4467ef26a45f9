"use strict";

// Of each element that a map is drawn in, how to light words there, and where its Tab stop is.
const drawnMaps = new WeakMap();

/**
 * Draws attention weights into `element`, in the place of what it holds, as a table to look at, to point at, and to
 * walk through by the arrow keys. `map` is what attention_map.py makes:
 *
 *   rows, columns                  the words that attend, and those that are attended to
 *   weights                        weights[row][column]; blank where exactly 0
 *   groups                         for each row its groups of columns that share a weight, each as runs [start, stop]
 *   rowTitle, columnTitle          what the rows and the columns are: "hypothesis", "premise"
 *   rightToLeft                    whether the columns run from right to left; optional
 *   unknownRows, unknownColumns    where the words are that the model does not know; optional
 *   describe(row, column)          the text of a cell, below the table; optional
 *   name                           whose map it is, for screen readers: "softmax"; optional
 *
 * All maps within an element with the attribute data-linked-maps are of one item: pointing at a word, or at the cell of
 * two, lights them in each. Drawn anew, a map keeps the focus at its place.
 *
 * Words go into the page as text only, never as markup.
 */
function renderHeatMap(element, map) {
  const describe = map.describe ?? ((row, column) => describeWeight(map, row, column));
  const attends = `${map.rowTitle} attends to ${map.columnTitle}`;
  const table = createElement("table", {
    role: "grid", "aria-readonly": "true", "aria-label": map.name ? `${map.name}: ${attends}` : attends,
  });
  table.dir = map.rightToLeft ? "rtl" : "ltr";
  table.style.setProperty("--columns", map.columns.length);
  table.style.setProperty("--letters", Math.max(0, ...[map.rowTitle, ...map.rows].map((word) => word.length)));
  // Above this, a cell is too narrow for its number if the words are to be seen together.
  table.classList.toggle("dense", map.columns.length > 32);
  table.append(createHead(map));
  const body = table.createTBody();
  const cells = map.rows.map((word, row) => {
    const line = body.insertRow();
    line.append(createHeader("row", word, isUnknown(map, "Rows", row)));
    return map.columns.map((_, column) => {
      const cell = createCell(map, row, column);
      line.append(cell);
      return cell;
    });
  });
  const groupsOfCell = outlineGroups(map.groups, cells);

  const readout = createElement("p", { class: "readout", "aria-hidden": "true" }); // the cells have names of their own
  const scroller = createElement("div", { class: "scroller" });
  scroller.append(table);
  const [entryRow, entryColumn, hadFocus] = drawnMaps.get(element)?.entry() ?? [0, 0, false];
  element.classList.add("heat-map");
  element.replaceChildren(scroller, readout);

  const headerOfRow = [...body.rows].map((line) => line.cells[0]);
  const headerOfColumn = [...table.tHead.rows[1].cells];
  const placeOf = new Map([
    ...cells.flatMap((line, row) => line.map((cell, column) => [cell, [row, column]])),
    ...headerOfRow.map((header, row) => [header, [row, -1]]),
    ...headerOfColumn.map((header, column) => [header, [-1, column]]),
  ]);
  const [wordsOfRows, wordsOfColumns] = namesOfWords(map);
  let highlighted = [];
  let entry = cells[entryRow]?.[entryColumn] ?? cells[0]?.[0]; // where the Tab key enters the table
  entry?.setAttribute("tabindex", "0");

  function light(words) {
    for (const [other, name] of highlighted) other.classList.remove(name);
    highlighted = [];
    const row = wordsOfRows.findIndex((word) => words.has(word));
    const column = wordsOfColumns.findIndex((word) => words.has(word));
    const highlight = (others, name) => others.forEach((other) => highlighted.push([other, name]));
    if (row >= 0) highlight([headerOfRow[row]], "current");
    if (column >= 0) highlight([headerOfColumn[column]], "current");
    if (row >= 0) highlight(cells[row], "in-row");
    if (column >= 0) highlight(cells.map((line) => line[column]), "in-column");
    if (row >= 0 && column >= 0) highlight(groupsOfCell.get(cells[row][column]) ?? [], "in-group");
    for (const [other, name] of highlighted) other.classList.add(name);
    if (row >= 0 && column >= 0) readout.textContent = describe(row, column);
    else readout.textContent = row >= 0 || column >= 0 ? describeWord(map, row, column) : "";
  }

  /** What a cell stands for, or a word; `null` is nothing. */
  function show(node) {
    const [row, column] = placeOf.get(node?.closest("td, th")) ?? [-1, -1];
    lightLinked(element, [wordsOfRows[row], wordsOfColumns[column]]);
  }

  drawnMaps.set(element, {
    light,
    entry: () => [...(placeOf.get(entry) ?? [0, 0]), entry !== undefined && entry === document.activeElement],
  });
  table.addEventListener("pointerover", (event) => show(event.target));
  table.addEventListener("pointerleave", () => show(table.contains(document.activeElement) ? entry : null));
  table.addEventListener("focusout", () => show(null));
  table.addEventListener("focusin", (event) => {
    entry.setAttribute("tabindex", "-1");
    entry = event.target.closest("td");
    entry.setAttribute("tabindex", "0");
    show(entry);
  });
  table.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.shiftKey) return; // these belong to the browser
    let [row, column] = placeOf.get(entry);
    const forward = map.rightToLeft ? -1 : 1;
    const whole = event.ctrlKey; // to the table's corner, not to the row's end
    if (event.key === "ArrowRight") column += forward;
    else if (event.key === "ArrowLeft") column -= forward;
    else if (event.key === "ArrowDown") row += 1;
    else if (event.key === "ArrowUp") row -= 1;
    else if (event.key === "Home") [row, column] = [whole ? 0 : row, 0];
    else if (event.key === "End") [row, column] = [whole ? cells.length - 1 : row, map.columns.length - 1];
    else return;
    event.preventDefault();
    cells[row]?.[column]?.focus();
  });
  if (hadFocus) entry?.focus({ preventScroll: true });
}

/** Of each row's and each column's word a name that it has in all maps of an item: the second "a" of the premise. */
function namesOfWords(map) {
  const nameAll = (side, words) => {
    const counts = new Map();
    return words.map((word) => {
      counts.set(word, (counts.get(word) ?? 0) + 1);
      return JSON.stringify([side, word, counts.get(word)]);
    });
  };
  // In self-attention, a word that attends and the same word that is attended to are lit each by itself.
  const rowSide = map.rowTitle === map.columnTitle ? `${map.rowTitle} attending` : map.rowTitle;
  return [nameAll(rowSide, map.rows), nameAll(map.columnTitle, map.columns)];
}

function lightLinked(element, words) {
  const linked = element.closest("[data-linked-maps]")?.querySelectorAll(".heat-map") ?? [element];
  const lit = new Set(words.filter((word) => word !== undefined));
  for (const other of linked) drawnMaps.get(other)?.light(lit);
}

/** `side` is "Rows" or "Columns". */
function isUnknown(map, side, position) {
  return (map[`unknown${side}`] ?? []).includes(position);
}

function describeWord(map, row, column) {
  const [title, words, side, position] =
    row >= 0 ? [map.rowTitle, map.rows, "Rows", row] : [map.columnTitle, map.columns, "Columns", column];
  const word = `${title} word ${quoted(words[position])}`;
  return isUnknown(map, side, position) ? `${word}, which the model does not know` : word;
}

function describeWeight(map, row, column) {
  const text =
    `${map.rowTitle} word ${quoted(map.rows[row])} attends to ` +
    `${map.columnTitle} word ${quoted(map.columns[column])}`;
  const weight = text + describeShare(map, row, column, (other) => quoted(map.columns[other]));
  return [weight, describeUnknown(map, row, column)].filter(Boolean).join("; ");
}

/** The weight, and by their names the columns that share it. */
function describeShare(map, row, column, nameOf) {
  const sharing = describeGroup(map, row, column, nameOf);
  return `: ${preciseWeight(map.weights[row][column])}${sharing && `, ${sharing}`}`;
}

function describeGroup(map, row, column, nameOf) {
  const group = map.groups[row].map(columnsOf).find((columns) => columns.includes(column)) ?? [];
  const others = group.filter((other) => other !== column).map(nameOf);
  return others.length ? `shared with ${others.join(", ")}` : "";
}

/** Which of a cell's two words the model does not know. */
function describeUnknown(map, row, column) {
  const unknown = [
    ...(isUnknown(map, "Rows", row) ? [map.rows[row]] : []),
    ...(isUnknown(map, "Columns", column) ? [map.columns[column]] : []),
  ];
  return unknown.length ? `the model does not know ${unknown.map(quoted).join(" and ")}` : "";
}

function preciseWeight(weight) {
  return String(Number(weight.toPrecision(3)));
}

/**
 * Draws attention over the regions of an image into `element`, in the place of what it holds: to look at, to point at,
 * and to walk through by the arrow keys. `map` is as of `renderHeatMap`, with a single row, and has besides
 *
 *   boxes    of each column's region the left, upper, right and lower edge, as fractions of the image
 *   image    the image's address; without, the regions are drawn on an empty square
 *
 * `columns` are the regions' names, which may be missing.
 */
function renderRegions(element, map) {
  const weights = map.weights[0];
  const groups = map.groups[0].map(columnsOf);
  const numGroupColors = 4; // in heat_map.css
  const title = map.name ? `${map.name}: ${map.columnTitle}` : map.columnTitle;
  const picture = createElement("div", { class: "picture", role: "list", "aria-label": title });
  if (map.image) picture.append(createElement("img", { src: map.image, alt: "" }));
  else picture.classList.add("empty");

  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  const byArea = map.boxes.map((_, column) => column).sort((a, b) => area(map.boxes[b]) - area(map.boxes[a]));
  const regions = map.boxes.map((box, column) => {
    const label = nameOfRegion(map, column) + describeShare(map, 0, column, (other) => nameOfRegion(map, other));
    const region = createElement("div", { class: "region", role: "listitem", tabindex: "-1", "aria-label": label });
    const [left, top, right, bottom] = box.map((fraction) => `${100 * fraction}%`);
    Object.assign(region.style, { left, top, width: `calc(${right} - ${left})`, height: `calc(${bottom} - ${top})` });
    region.style.zIndex = byArea.indexOf(column); // a region within another can be pointed at
    region.style.setProperty("--weight", weights[column]);
    const group = groups.findIndex((columns) => columns.includes(column));
    if (group >= 0) {
      region.classList.add("grouped");
      region.style.setProperty("--outline", `var(--group-${group % numGroupColors})`);
    }
    return region;
  });
  picture.append(...regions, ...createLabels(map));

  const readout = createElement("p", { class: "readout", "aria-hidden": "true" }); // the regions' labels are read out
  const [entryRegion, hadFocus] = drawnMaps.get(element)?.entry().slice(1) ?? [0, false];
  element.classList.add("heat-map");
  element.replaceChildren(picture, readout);

  const [, namesOfRegions] = namesOfWords({ ...map, columns: map.boxes.map((_, column) => column) });
  let entry = regions[entryRegion] ?? regions[0]; // where the Tab key enters the picture
  entry?.setAttribute("tabindex", "0");

  function light(names) {
    const lit = namesOfRegions.findIndex((name) => names.has(name));
    readout.textContent = regions[lit]?.getAttribute("aria-label") ?? "";
    const group = groups.find((columns) => columns.includes(lit)) ?? [];
    regions.forEach((region, column) => {
      region.classList.toggle("current", column === lit);
      region.classList.toggle("in-group", group.includes(column));
    });
  }

  function show(shown) {
    lightLinked(element, [namesOfRegions[regions.indexOf(shown)]]);
  }

  drawnMaps.set(element, {
    light,
    entry: () => [0, regions.indexOf(entry), entry !== undefined && entry === document.activeElement],
  });

  picture.addEventListener("pointerover", (event) => show(event.target.closest(".region")));
  picture.addEventListener("pointerleave", () => show(picture.contains(document.activeElement) ? entry : null));
  picture.addEventListener("focusout", () => show(null));
  picture.addEventListener("focusin", (event) => {
    entry.setAttribute("tabindex", "-1");
    entry = event.target;
    entry.setAttribute("tabindex", "0");
    show(entry);
  });
  picture.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.shiftKey || event.ctrlKey) return; // these belong to the browser
    let column = regions.indexOf(entry);
    if (event.key === "ArrowRight" || event.key === "ArrowDown") column += 1;
    else if (event.key === "ArrowLeft" || event.key === "ArrowUp") column -= 1;
    else if (event.key === "Home") column = 0;
    else if (event.key === "End") column = regions.length - 1;
    else return;
    event.preventDefault();
    regions[column]?.focus();
  });
  if (hadFocus) entry?.focus({ preventScroll: true });
}

/** Its number, counted from 1, and its name, if it has one. */
function nameOfRegion(map, column) {
  const name = map.columns[column];
  const number = `region ${column + 1}`;
  return name && name !== String(column + 1) ? `${number} ${quoted(name)}` : number;
}

/**
 * The weights and names of the regions with the highest weights; where there is no place, the weight alone, or none.
 * Without a picture, names are all that tells what the regions without weight are.
 */
function createLabels(map) {
  const maxLabels = 12; // more would hide the picture
  const maxLetters = 22;
  // Shares of the picture's width, about.
  const letterWidth = 0.0155;
  const margins = 0.035;
  const weights = map.weights[0];
  const columns = map.boxes.map((_, column) => column).filter((column) => weights[column] > 0 || !map.image);
  const placed = [];
  return columns.sort((a, b) => weights[b] - weights[a]).slice(0, maxLabels).flatMap((column) => {
    const letters = [...(map.columns[column] || String(column + 1))];
    const name = letters.length > maxLetters ? `${letters.slice(0, maxLetters - 1).join("")}…` : letters.join("");
    const number = formatWeight(weights[column]);
    const texts = weights[column] > 0 ? [`${number} ${name}`, number] : [name];
    const places = texts.map((text) => placeLabel(map.boxes[column], text.length * letterWidth + margins, placed));
    const chosen = places.findIndex((place) => place !== undefined);
    if (chosen < 0) return [];
    const [x, y] = places[chosen];
    placed.push(places[chosen]);
    const label = createElement("span", { class: "label", "aria-hidden": "true" });
    label.append(createElement("bdi", {}, texts[chosen]));
    Object.assign(label.style, { left: `${100 * x}%`, top: `${100 * y}%` });
    return [label];
  });
}

/** [left, top, width] in a corner of the box or just outside, where none of the labels placed so far is, if there is. */
function placeLabel([left, top, right, bottom], width, placed) {
  const height = 0.05; // of a line, about, as a share of the picture's
  const within = (value, size) => Math.min(Math.max(value, 0), Math.max(1 - size, 0));
  const inside = [
    [left, top], [left, bottom - height], [right - width, top], [right - width, bottom - height],
  ];
  const outside = [[left, top - height], [left, bottom], [right - width, top - height], [right - width, bottom]];
  // A label that is wider than its box would lie across the edges.
  const fits = width <= right - left && height <= bottom - top;
  const places = (fits ? [...inside, ...outside] : [...outside, ...inside]).map(
    ([x, y]) => [within(x, width), within(y, height), width],
  );
  const isFree = ([x, y]) =>
    placed.every(
      ([otherX, otherY, otherWidth]) =>
        x + width <= otherX || otherX + otherWidth <= x || Math.abs(y - otherY) >= height,
    );
  return places.find(isFree);
}

/** Set apart by Unicode's isolates, so that a word of another direction does not turn around what stands next to it. */
function quoted(word) {
  return `\u201c\u2068${word}\u2069\u201d`;
}

function columnsOf(runs) {
  return runs.flatMap(([start, stop]) => Array.from({ length: stop - start }, (_, index) => start + index));
}

/** Draws a box round each run, and a line from each run of a group to the next; tells each cell's group. */
function outlineGroups(groups, cells) {
  const groupsOfCell = new Map();
  groups.forEach((ofRow, row) => {
    let level = 0; // lines of different groups run at different heights: below and above the numbers in turn
    for (const runs of ofRow) {
      const members = columnsOf(runs).map((column) => cells[row][column]);
      const lines = [];
      runs.forEach(([start, stop], index) => {
        for (let column = start; column < stop; column += 1) {
          const box = createElement("span", { class: "box" });
          box.classList.toggle("first", column === start);
          box.classList.toggle("last", column === stop - 1);
          cells[row][column].append(box);
        }
        for (let column = stop; column < (runs[index + 1]?.[0] ?? stop); column += 1) {
          const line = createElement("span", { class: level % 2 ? "line above" : "line" });
          line.style.setProperty("--step", (level >> 1) % 2);
          cells[row][column].append(line);
          lines.push(line);
        }
      });
      if (runs.length > 1) level += 1;
      for (const member of members) groupsOfCell.set(member, [...members, ...lines]);
    }
  });
  return groupsOfCell;
}

function createHead(map) {
  const head = createElement("thead");
  const titles = head.insertRow();
  const corner = createHeader("col", `${map.rowTitle} \u2193`);
  corner.rowSpan = 2;
  const title = createHeader("colgroup", `${map.columnTitle} ${map.rightToLeft ? "\u2190" : "\u2192"}`);
  title.colSpan = Math.max(map.columns.length, 1);
  titles.append(corner, title);
  head.insertRow().append(
    ...map.columns.map((word, column) => createHeader("col", word, isUnknown(map, "Columns", column))),
  );
  return head;
}

function createHeader(scope, text, unknown = false) {
  const header = createElement("th", { scope });
  const word = createElement("span", { dir: "auto" }, visible(text));
  // What is no wider than its column lies on its side for nothing; and written downwards, an emoji of several
  // characters would fall into its parts.
  const isNarrow = [...new Intl.Segmenter().segment(text)].length <= 2;
  word.classList.toggle("upright", isNarrow || /\p{Extended_Pictographic}/u.test(text));
  if (unknown) {
    word.classList.add("unknown");
    header.setAttribute("aria-description", "unknown to the model");
  }
  header.append(word);
  return header;
}

/** The code of a word that has nothing to be seen, such as "U+FEFF". */
function visible(word) {
  if (!/^[\p{Default_Ignorable_Code_Point}\p{White_Space}\p{Cc}]+$/u.test(word)) return word;
  return [...word].map((character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`).join(" ");
}

function createCell(map, row, column) {
  const weight = map.weights[row][column];
  const cell = createElement("td", { tabindex: "-1", "aria-label": preciseWeight(weight) });
  const sharing = describeGroup(map, row, column, (other) => quoted(map.columns[other]));
  const description = [sharing, describeUnknown(map, row, column)].filter(Boolean).join("; ");
  if (description) cell.setAttribute("aria-description", description);
  if (weight === 0) return cell;
  cell.style.setProperty("--weight", weight);
  cell.append(createElement("span", { class: "number", dir: "ltr" }, formatWeight(weight)));
  return cell;
}

/** As narrow as it goes; a weight below .005 is a dot, so as not to be read as 0. */
function formatWeight(weight) {
  if (weight >= 0.995) return "1";
  return weight < 0.005 ? "\u00b7" : weight.toFixed(2).slice(1);
}

function createElement(name, attributes = {}, text = "") {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.textContent = text;
  return element;
}
