// The page: what is typed, dropped and moved, and the order in which the parts are brought up to date.

import { call, setKeyReader } from "./api.js";
import { showCard } from "./card.js";
import { Vectors, describe, getInput, readImage } from "./collection.js";
import { count, debounce, find, formatCount, formatTime, make, makeBar, say, show } from "./dom.js";
import { Classes, Concepts, Latents } from "./family.js";
import { Indexes } from "./indexes.js";
import { TextMap } from "./map.js";
import { Sizes } from "./sizes.js";
import { MAX_ROWS, chooseColumn, listTexts, parseNumbers, readTable, splitLines } from "./tables.js";
import { applyWeights, compareRankings, cut, getRow, measureKept, pick, rank, score, spread, stack, store } from "./vectors.js";

const TOP = 10;
const QUERIES = 100;
const PREDICTED = 128;
const MAX_FILE_BYTES = 32 << 20;
const EXAMPLES = [
  "The parcel was left with a neighbour",
  "How can I track my order?",
  "I was charged twice for one purchase",
  "My refund has not arrived yet",
  "I forgot the password of my account",
  "Please close my account and delete my data",
  "The app stops when I open the camera",
  "The screen stays black after the update",
  "The battery is empty after two hours",
  "Which colours is the jacket available in?",
  "The shoes are too small, can I exchange them?",
  "Do you ship to islands?",
  "A light rain fell over the harbour all morning",
  "Snow is expected in the mountains tonight",
  "The orchestra played the second symphony",
  "Her new album mixes jazz and folk songs",
  "She walked her dog along the river",
  "The cat sleeps on the warm window sill",
  "The recipe needs two eggs and a cup of flour",
  "Let the dough rest for an hour before baking",
  "The home team scored in the last minute",
  "He ran the marathon in under three hours",
  "The telescope found a planet near a small star",
  "Bees find their way home by the light of the sky",
  "The museum opens a show of early photographs",
  "The train to the coast leaves at seven",
];

const state = {
  about: null, model: null, items: [], table: null, image: null,
  full: null, source: null, cut: null, kept: null, hits: [], chosen: null, predictions: null,
};
const parts = {};
let working = null;
let searching = null;

// -- start -------------------------------------------------------------------------------------------------------------

async function start() {
  setTheme();
  arrange();
  setKeyReader(readKey);
  listen();
  try {
    state.about = (await call("about")).data;
    const { models } = state.about;
    show(find("model-choice"), models.length > 1);
    find("model").replaceChildren(...models.map((model) => make("option", { value: model.id, text: model.id })));
    await openModel(models.find(({ searched }) => searched.length) ?? models[0]);
  } catch (error) {
    tellFault(error);
  }
}

async function openModel(model) {
  working?.abort();
  searching?.abort();
  Object.assign(state, { model, full: null, cut: null, kept: null, hits: [], chosen: null, predictions: null, image: null });
  find("model").value = model.id;
  find("model-name").textContent = model.id;
  document.title = `${model.id} · zoo`;
  const facts = [model.family, count(model.dimensions, model.similarity === "hamming" ? "bit" : "dimension"), model.layers && count(model.layers, "layer"), model.similarity, model.modalities.join(" and ")];
  find("model-facts").textContent = facts.filter(Boolean).join(" · ");
  parts.vectors = new Vectors(model);
  parts.sizes = new Sizes(model, debounce(refreshCut, 60));
  parts.concepts = new Concepts(model, refreshWeights);
  parts.classes = new Classes(model);
  parts.latents = new Latents(model);
  parts.indexes = new Indexes(model, changeSource);
  parts.map = new TextMap(find("map"), showPoint, choosePoint);
  showInputs(model);
  changeSource();
  await Promise.all([loadCard(model), parts.concepts.load(), setItems(readLines())]);
}

const reads = (kind) => state.model.modalities.includes(kind);

function showInputs(model) {
  const [hasLines, hasImages] = [reads("text") || reads("vector"), reads("image")];
  show(find("query"), hasLines);
  show(find("query-file-label"), hasImages);
  show(find("lines"), hasLines);
  find("texts-title").textContent = reads("text") ? "Your texts" : hasImages ? "Your images" : "Your vectors";
  find("file").accept = [...(hasLines ? [".csv", ".tsv", ".txt", ".jsonl"] : []), ...(hasImages ? ["image/*"] : [])].join(",");
  say(find("drop-note"), hasImages ? `or drop ${hasLines ? "a csv, txt or jsonl, or " : ""}images here` : "or drop a csv, txt or jsonl here");
  say(find("texts-note"), hasLines ? "One text in a line. They stay in this page; the server only turns them into vectors."
    : "They stay in this page; the server only turns them into vectors.");
  if (reads("text") && !find("lines").value) find("lines").value = EXAMPLES.join("\n");
  if (!reads("text") && find("lines").value === EXAMPLES.join("\n")) find("lines").value = "";
  state.items = state.items.filter((item) => item.image && hasImages);
  find("query").placeholder = model.modalities[0] === "vector" ? "Numbers, with spaces between them" : "Type a few words…";
}

async function loadCard(model) {
  show(find("card-section"), model.has_card);
  find("card").replaceChildren();
  if (!model.has_card) return;
  const { data } = await call(`about/card?model=${encodeURIComponent(model.id)}`);
  if (model === state.model) showCard(find("card"), data.html);
}

function tellFault(error) {
  if (error?.name === "AbortError") return;
  show(find("fault"), Boolean(error));
  say(find("fault"), error ? error.message : "");
}

/** Run a part of the page, and say its error instead of losing it. */
const guard = (run) => async (...values) => {
  try {
    await run(...values);
  } catch (error) {
    tellFault(error);
  }
};

// -- the user's own texts ----------------------------------------------------------------------------------------------

function readLines() {
  const lines = splitLines(find("lines").value);
  const images = state.items.filter((item) => item.image);
  const typed = reads("text") ? lines : reads("vector") ? lines.map(parseNumbers).filter(Boolean) : [];
  return [...typed, ...images];
}

const setItems = guard(async (items) => {
  const left = items.length - MAX_ROWS;
  state.items = items.slice(0, MAX_ROWS);
  state.predictions = null;
  renderPictures();
  working?.abort();
  const work = (working = new AbortController());
  const begin = performance.now();
  try {
    const full = await encodeItems({}, work.signal);
    if (work.signal.aborted) return;
    Object.assign(state, { full, chosen: null });
    tellFault(null);
    parts.map.setColours(null);
    parts.map.setItems(state.items, full);
    const more = left > 0 ? ` The first ${formatCount(MAX_ROWS)} are used, and ${formatCount(left)} are left out.` : "";
    const noun = reads("text") ? "text" : reads("image") ? "image" : "vector";
    say(find("texts-status"), `${count(state.items.length, noun)}, ready in ${formatTime(performance.now() - begin)}.${more}`);
    await updateCut(work.signal);
    await sortItems(work.signal);
  } finally {
    if (working === work) show(find("work"), false);
  }
});

async function encodeItems(fields, signal) {
  return parts.vectors.encode(state.items, fields, signal, (done, all) => {
    if (signal.aborted) return;
    show(find("work"), done < all && all > 64);
    Object.assign(find("progress"), { max: all, value: done });
    if (done < all) say(find("texts-status"), `${formatCount(done)} of ${formatCount(all)} are encoded…`);
  });
}

/** Predict the class of every item, colour the map, and count. */
async function sortItems(signal) {
  show(find("map-legend"), false);
  if (!state.model.predicts || !state.items.length) return;
  const predictions = [];
  for (let i = 0; i < state.items.length; i += PREDICTED) {
    predictions.push(...(await parts.classes.predict(state.items.slice(i, i + PREDICTED), signal)));
  }
  if (signal.aborted) return;
  state.predictions = predictions;
  const { colours, legend } = Classes.sort(predictions);
  parts.map.setColours(colours);
  find("map-legend").replaceChildren(...legend.map(({ name, count: number, colour }) => make("li", {},
    make("span", { class: `swatch colour-${colour}`, "aria-hidden": "true" }), `${name} · ${number}`)));
  show(find("map-legend"), true);
}

function renderPictures() {
  const images = state.items.filter((item) => item.image);
  show(find("pictures"), images.length > 0);
  find("pictures").replaceChildren(...images.map((item) => make("li", {},
    make("button", { type: "button", class: "picture", "aria-label": `Use ${item.name}`, on: { click: () => useImage(item) } }, make("img", { src: item.image, alt: "" })))));
}

const readFiles = guard(async (files) => {
  tellFault(null);
  const images = [];
  for (const file of files) {
    if (file.type.startsWith("image/") && reads("image")) images.push(await readImage(file, state.about.limits.image_bytes));
    else if (reads("text") || reads("vector")) await readTableFile(file);
    else throw new Error(`${file.name}: this model reads images`);
  }
  if (images.length) {
    state.items = [...state.items, ...images];
    await setItems(readLines());
  }
});

async function readTableFile(file) {
  if (file.size > MAX_FILE_BYTES) throw new Error(`${file.name}: has more than ${MAX_FILE_BYTES >> 20} MB; use \`zoo index\` for so many rows`);
  let table;
  try {
    table = readTable(file.name, await file.text());
    if (!table.rows.length) throw new Error("there are no rows in it");
  } catch (error) {
    throw new Error(`${file.name}: ${error.message}`);
  }
  state.table = table;
  show(find("column-choice"), table.columns.length > 1);
  find("column").replaceChildren(...table.columns.map((column) => make("option", { value: column, text: column })));
  find("column").value = chooseColumn(table);
  await useColumn();
}

async function useColumn() {
  find("lines").value = listTexts(state.table, find("column").value).join("\n");
  await setItems(readLines());
}

// -- the smaller model -------------------------------------------------------------------------------------------------

const isUnit = () => state.model.similarity !== "dot";

/** Return vectors as they are compared, before they are stored: weighted, and cut to their first components. */
function shape(matrix) {
  const { size, store: way } = parts.sizes.choice;
  const weighted = parts.concepts.weights.size ? applyWeights(matrix, parts.concepts.weights, parts.concepts.count) : matrix;
  return way === "codes" ? weighted : cut(weighted, Math.min(size, weighted.width), isUnit());
}

function storeDocuments(matrix) {
  const { store: way } = parts.sizes.choice;
  return way === "codes" ? matrix : store(matrix, way);
}

const isChanged = () => !parts.sizes.choice.isFull || parts.concepts.weights.size > 0;

/** Encode the items as the chosen cut does, compare it with the full model, and search again. */
async function updateCut(signal) {
  if (!state.full) return;
  const { fields } = parts.sizes;
  state.source = Object.keys(fields).length ? await encodeItems(fields, signal) : state.full;
  if (signal.aborted) return;
  await shapeAndCompare(fields, signal);
  await search();
}

async function shapeAndCompare(fields, signal) {
  const full = cut(state.full, state.full.width, isUnit());
  const shaped = shape(state.source);
  Object.assign(state, { unit: full, shaped, cut: isChanged() ? storeDocuments(shaped) : full, kept: null });
  if (parts.sizes.choice.isFull || full.count < 3) return;
  const rows = spread(full.count, QUERIES);
  let queries = pick(shaped, rows);
  if (fields.output_dtype === "decoded") {
    const vectors = [];
    for (const row of rows) vectors.push((await parts.vectors.encodeQuery(state.items[row], fields, signal)).vector);
    queries = stack(vectors);
  }
  const mean = measureKept(full, state.cut, rows, pick(full, rows), queries, TOP);
  state.kept = { mean, queries: rows.length, size: Math.min(TOP, full.count - 1), query: null };
}

const refreshCut = guard(async () => {
  working?.abort();
  const work = (working = new AbortController());
  try {
    await updateCut(work.signal);
    if (!state.predictions) await sortItems(work.signal);
    if (!work.signal.aborted) say(find("texts-status"), `${count(state.items.length, "text")}, ready.`);
  } finally {
    if (working === work) show(find("work"), false);
  }
});

/** Rank again with other weights of concepts. Nothing is encoded. */
const refreshWeights = guard(async () => {
  if (!state.source) return;
  await shapeAndCompare(parts.sizes.fields, new AbortController().signal);
  await search();
});

function reportSizes(kept) {
  const { vectors, sizes } = parts;
  const read = (fields) => ({ query: vectors.getQueryTime(fields), text: vectors.getTextTime(fields) });
  sizes.report({ full: read({}), cut: read(sizes.fields) }, kept);
}

// -- search ------------------------------------------------------------------------------------------------------------

function readQuery() {
  const text = find("query").value.trim();
  if (state.image) return state.model.mixed_inputs && text ? { ...state.image, text } : state.image;
  if (!text) return null;
  return reads("vector") ? parseNumbers(text) : text;
}

const search = guard(async () => {
  searching?.abort();
  const { signal } = (searching = new AbortController());
  const query = readQuery();
  if (!query) {
    clearHits();
    return;
  }
  tellFault(null);
  if (parts.indexes.index) await searchIndex(query, signal);
  else await searchItems(query, signal);
  if (state.model.predicts && !signal.aborted) parts.classes.show((await parts.classes.predict([query], signal))[0]);
  if (state.model.latents !== null && query.image && !signal.aborted && state.traversed !== query.image) {
    state.traversed = query.image;
    await parts.latents.traverse(query);
  }
});

function clearHits() {
  state.hits = [];
  find("hits").replaceChildren();
  say(find("status"), "");
  parts.map.setHits([], null);
  parts.concepts.explain(null, null);
  if (state.model.predicts) parts.classes.show(null);
  reportSizes(state.kept);
}

async function searchIndex(query, signal) {
  const { hits, server, total } = await parts.indexes.search(getInput(query), TOP, signal);
  if (signal.aborted) return;
  renderHits(hits.map((hit) => ({ ...hit, move: null })));
  say(find("status"), `${count(hits.length, "row")} of ${formatCount(parts.indexes.index.rows)} in ${formatTime(server)}, ${formatTime(total)} with the way there.`);
}

/** Rank the items with the cut first, and with the full model for comparison. */
async function searchItems(query, signal) {
  const { fields } = parts.sizes;
  const [own, whole] = [await parts.vectors.encodeQuery(query, fields, signal), await parts.vectors.encodeQuery(query, {}, signal)];
  if (signal.aborted || !state.cut || !state.cut.count) return;
  const begin = performance.now();
  const unit = (vector) => getRow(cut(stack([vector]), vector.length, isUnit()), 0);
  const vector = isChanged() ? getRow(shape(stack([own.vector])), 0) : unit(whole.vector);
  const scores = score(state.cut, vector);
  const order = rank(scores);
  const spent = performance.now() - begin;
  const { kept, moves } = compareRankings(rank(score(state.unit, unit(whole.vector))), order, TOP);
  Object.assign(state, { vector, hits: order.slice(0, TOP) });
  renderHits(state.hits.map((item) => ({ item, text: describe(state.items[item]), image: state.items[item].image, score: scores[item], move: isChanged() ? moves.get(item) : null })));
  parts.map.setHits(state.hits, whole.vector);
  say(find("status"), describeSearch(parts.vectors.getQueryTime(fields), spent));
  if (state.kept) state.kept.query = kept;
  reportSizes(state.kept);
  explainChosen();
}

function describeSearch(encoded, spent) {
  return `${state.hits.length} of ${count(state.items.length, "text")}. The model takes ${formatTime(encoded)}, the ranking ${formatTime(spent)}.`;
}

function describeMove(move) {
  if (move === null) return null;
  const text = move === 0 ? "=" : move > 0 ? `▲ ${move}` : `▼ ${-move}`;
  const words = move === 0 ? "same place" : `${Math.abs(move)} ${move > 0 ? "up" : "down"}`;
  return make("span", { class: `move ${move > 0 ? "up" : move < 0 ? "down" : ""}`, title: `${words} against the full model` },
    make("span", { "aria-hidden": "true", text }), make("span", { class: "hidden", text: `, ${words} against the full model` }));
}

function renderHits(hits) {
  const had = [...find("hits").querySelectorAll(".hit-button")].indexOf(document.activeElement);
  const largest = Math.max(1e-9, ...hits.map(({ score: value }) => value));
  find("hits").replaceChildren(...hits.map((hit, place) => make("li", { class: "hit-row" },
    make("button", { type: "button", class: "hit-button", "aria-pressed": String(hit.item !== undefined && hit.item === state.chosen), on: {
      click: () => chooseHit(hit), keydown: (event) => moveFocus(event, place),
    } },
    hit.image ? make("img", { src: hit.image, alt: "" }) : null,
    make("span", { class: "hit-text", text: hit.text }),
    hit.notes ? make("span", { class: "hit-notes", text: hit.notes }) : null,
    make("span", { class: "hit-score" }, makeBar(hit.score / largest), make("span", { class: "value", text: hit.score.toFixed(3) }), describeMove(hit.move))))));
  if (had >= 0) find("hits").querySelectorAll(".hit-button")[Math.min(had, hits.length - 1)]?.focus();
}

/** Go to the next or the previous result, or from the first one to the search box. */
function moveFocus(event, place) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const buttons = find("hits").querySelectorAll(".hit-button");
  (place + step < 0 ? find("query") : buttons[Math.min(place + step, buttons.length - 1)]).focus();
}

function chooseHit({ item }) {
  if (item === undefined) return;
  state.chosen = item;
  for (const [place, button] of find("hits").querySelectorAll(".hit-button").entries()) {
    button.setAttribute("aria-pressed", String(state.hits[place] === item));
  }
  say(find("map-caption"), describe(state.items[item]));
  explainChosen();
}

/** Explain the chosen result, or the first one. A change of weights alone only writes the numbers anew. */
function explainChosen() {
  if (!state.model.components_named || !state.hits.length) return;
  const item = state.hits.includes(state.chosen) ? state.chosen : state.hits[0];
  const document = getRow(state.shaped, item);
  const key = JSON.stringify([find("query").value, item]);
  if (parts.concepts.key === key) parts.concepts.update(state.vector, document);
  else parts.concepts.explain(state.vector, document, describe(state.items[item]));
  parts.concepts.key = key;
}

function showPoint(item) {
  const chosen = item ?? state.chosen;
  const label = chosen === null || !state.predictions ? "" : ` (${state.predictions[chosen]?.label ?? "none of these"})`;
  say(find("map-caption"), chosen === null || !state.items[chosen] ? "" : `${describe(state.items[chosen])}${label}`);
}

/** Search for the text of a point that was chosen on the map. */
function choosePoint(item) {
  const own = state.items[item];
  if (own.image) useImage(own);
  else {
    useImage(null);
    find("query").value = describe(own);
    search();
  }
}

/** Make an image the query, or take it away. */
function useImage(item) {
  state.image = item;
  show(find("query-image"), item !== null);
  find("query-image").replaceChildren(...(item === null ? [] : [
    make("img", { src: item.image, alt: item.name }), make("span", { text: item.name }),
    make("button", { type: "button", text: "Remove", on: { click: () => useImage(null) } }),
  ]));
  search();
}

/** Put the controls of the model below the results on a narrow screen, so that their effect is in sight. */
function arrange() {
  const narrow = matchMedia("(max-width: 960px)");
  const sections = ["size-section", "why-section", "classes-section", "latents-section"].map(find);
  const place = () => (narrow.matches ? find("search-section").after(...sections) : find("side").prepend(...sections));
  narrow.addEventListener("change", place);
  place();
}

/** Show the parts that belong to the chosen source. */
function changeSource() {
  const isOwn = !parts.indexes?.index;
  for (const name of ["map-section", "texts-section"]) show(find(name), isOwn);
  find("size-section").classList.toggle("away", !isOwn);
  if (parts.map) search();
}

// -- listeners ---------------------------------------------------------------------------------------------------------

function listen() {
  find("query").addEventListener("input", debounce(search, 120));
  find("query").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      find("hits").querySelector(".hit-button")?.focus();
    }
  });
  find("lines").addEventListener("input", debounce(() => {
    state.table = null;
    show(find("column-choice"), false);
    setItems(readLines());
  }, 500));
  find("file").addEventListener("change", (event) => takeFiles(event.target, readFiles));
  find("query-file").addEventListener("change", (event) => takeFiles(event.target, useFile));
  find("column").addEventListener("change", guard(useColumn));
  find("model").addEventListener("change", guard(() => openModel(state.about.models.find(({ id }) => id === find("model").value))));
  find("stop").addEventListener("click", () => {
    working?.abort();
    show(find("work"), false);
    say(find("texts-status"), "Stopped. Change the texts to go on.");
  });
  find("clear").addEventListener("click", () => {
    find("lines").value = "";
    state.items = [];
    setItems([]);
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input:not([type=range]):not([type=radio]):not([type=checkbox]), textarea, select");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      find("query").focus();
    }
  });
  acceptDrops(find("drop"), readFiles);
  acceptDrops(find("query-drop"), useFile);
  // A file that misses both places must not replace the page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
}

function takeFiles(input, use) {
  use([...input.files]);
  input.value = "";
}

const useFile = guard(async ([file]) => {
  if (!file?.type.startsWith("image/") || !reads("image")) throw new Error(`${file?.name ?? "This"}: is not an image, or this model reads no images`);
  useImage(await readImage(file, state.about.limits.image_bytes));
});

function acceptDrops(element, use) {
  const mark = (isOver) => element.classList.toggle("over", isOver);
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  element.addEventListener("dragleave", () => mark(false));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    if (event.dataTransfer.files.length) use([...event.dataTransfer.files]);
  });
}

/** Ask for the API key. Return null if the dialog was closed without one. */
function readKey(wasWrong) {
  const dialog = find("key-dialog");
  say(find("key-note"), wasWrong ? "This key is wrong. Try again." : "This server asks for a key. The page keeps it in memory until it is closed.");
  find("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  find("key").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const key = find("key").value.trim();
      find("key").value = "";
      resolve(dialog.returnValue === "ok" && key ? key : null);
    }, { once: true });
  });
}

/** Let the button change between light and dark; without it, the page follows the system. */
function setTheme() {
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const write = () => (find("theme").textContent = isDark() ? "Light" : "Dark");
  find("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    write();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", write);
  write();
}

start();
