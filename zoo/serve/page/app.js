// The page: what is typed, dropped and moved, and the order in which the parts are brought up to date.

import { call, setKeyReader } from "./api.js";
import { showCard } from "./card.js";
import { Vectors, describe, getInput } from "./collection.js";
import { Comparison } from "./comparison.js";
import { count, debounce, find, formatCount, formatTime, make, say, show } from "./dom.js";
import { Classes, Concepts, Latents } from "./family.js";
import { Indexes } from "./indexes.js";
import { Inputs } from "./inputs.js";
import { TextMap } from "./map.js";
import { renderHits } from "./results.js";
import { acceptDrops, arrange, readKey, setTheme, takeFiles } from "./shell.js";
import { Sizes } from "./sizes.js";
import { MAX_ROWS } from "./tables.js";
import { getRow } from "./vectors.js";

const TOP = 10;
const PREDICTED = 128;
const state = {
	about: null, model: null, pictures: [], image: null, hits: [], vector: null, chosen: null, explained: null, predictions: null,
};
const parts = {};
let working = null;
let searching = null;

// -- start --

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
	parts.latents?.running?.abort();
	Object.assign(state, { model, traversed: null, hits: [], chosen: null, predictions: null, image: null });
	find("model").value = model.id;
	find("model-name").textContent = model.id;
	document.title = `${model.id} · zoo`;
	const facts = [model.family, count(model.dimensions, model.similarity === "hamming" ? "bit" : "dimension"), model.layers && count(model.layers, "layer"), model.similarity, model.modalities.join(" and ")];
	find("model-facts").textContent = facts.filter(Boolean).join(" · ");
	parts.vectors = new Vectors(model, state.about.limits.items);
	parts.sizes = new Sizes(model, debounce(refreshCut, 60));
	parts.concepts = new Concepts(model, refreshWeights);
	parts.classes = new Classes(model);
	parts.latents = new Latents(model);
	parts.indexes = new Indexes(model, changeSource);
	parts.comparison = new Comparison(model, parts.vectors, parts.sizes, parts.concepts);
	parts.map = new TextMap(find("map"), showPoint, choosePoint);
	parts.inputs = new Inputs(model, state.about.limits.image_bytes, state.pictures, refreshItems, useImage);
	showQueryImage();
	changeSource();
	await Promise.all([loadCard(model), parts.concepts.load(), refreshItems()]);
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

// -- the user's own texts --

/** Run work that encodes items. New work ends the old one. */
const work = guard(async (run) => {
	working?.abort();
	const own = (working = new AbortController());
	try {
		await run(own.signal);
	} finally {
		if (working === own) show(find("work"), false);
	}
});

/** Encode the lines and the images, draw the map, and search again. */
const refreshItems = () => work(async (signal) => {
	const all = parts.inputs.items;
	const items = all.slice(0, MAX_ROWS);
	const begin = performance.now();
	await parts.comparison.setItems(items, signal, reportProgress);
	Object.assign(state, { chosen: null, predictions: null });
	tellFault(null);
	parts.map.setColours(null);
	parts.map.setItems(items, parts.comparison.raw);
	const left = all.length - items.length;
	const more = left ? ` The first ${formatCount(MAX_ROWS)} are used, and ${formatCount(left)} are left out.` : "";
	await parts.comparison.apply(signal, reportProgress);
	say(find("texts-status"), `${count(items.length, parts.inputs.noun)}, ready in ${formatTime(performance.now() - begin)}.${more}`);
	await search();
	await sortItems(signal);
});

function reportProgress(done, all) {
	show(find("work"), done < all && all > 64);
	Object.assign(find("progress"), { max: all, value: done });
	if (done < all) say(find("texts-status"), `${formatCount(done)} of ${formatCount(all)} are encoded…`);
}

/** Predict the class of every item, colour the map, and count. */
async function sortItems(signal) {
	show(find("map-legend"), false);
	const { items } = parts.comparison;
	if (!state.model.predicts || !items.length) return;
	const predictions = [];
	for (let i = 0; i < items.length; i += PREDICTED) {
		predictions.push(...(await parts.classes.predict(items.slice(i, i + PREDICTED), signal)));
	}
	signal.throwIfAborted();
	state.predictions = predictions;
	const { colours, legend } = Classes.sort(predictions);
	parts.map.setColours(colours);
	find("map-legend").replaceChildren(...legend.map(({ name, count: number, colour }) => make("li", {},
		make("span", { class: `swatch colour-${colour}`, "aria-hidden": "true" }), `${name} · ${number}`)));
	show(find("map-legend"), true);
}

// -- the smaller model --

/** Encode the items as the controls say, if that is needed, and search again. */
const refreshCut = () => work(async (signal) => {
	await parts.comparison.apply(signal, reportProgress);
	say(find("texts-status"), `${count(parts.comparison.items.length, parts.inputs.noun)}, ready.`);
	await search();
	if (!state.predictions) await sortItems(signal);
});

/** Rank again with other weights of concepts. */
const refreshWeights = guard(async () => {
	state.chosen ??= state.explained; // the sliders stay those of the same result
	await parts.comparison.weigh(new AbortController().signal);
	await search();
});

// -- search --

const search = guard(async () => {
	searching?.abort();
	const { signal } = (searching = new AbortController());
	const query = parts.inputs.readQuery(state.image);
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
	parts.sizes.report(parts.comparison);
}

async function searchIndex(query, signal) {
	const { hits, server, total } = await parts.indexes.search(getInput(query), TOP, signal);
	if (signal.aborted) return;
	renderHits(hits.map((hit) => ({ ...hit, move: null })), null, () => {});
	say(find("status"), `${count(hits.length, "row")} of ${formatCount(parts.indexes.index.rows)} in ${formatTime(server)}, ${formatTime(total)} with the network.`);
}

/** Rank the items, and show what has moved. */
async function searchItems(query, signal) {
	const { comparison } = parts;
	const found = await comparison.search(query, signal);
	if (signal.aborted || !found) return;
	Object.assign(state, { vector: found.vector, hits: found.hits.map(({ item }) => item) });
	renderHits(found.hits.map((hit) => ({ ...hit, text: describe(comparison.items[hit.item]), image: comparison.items[hit.item].image })), state.chosen, chooseHit);
	parts.map.setHits(state.hits, found.whole);
	const all = count(comparison.items.length, parts.inputs.noun);
	say(find("status"), `${state.hits.length} of ${all}. The model takes ${formatTime(comparison.times.cut.query)}, the ranking ${formatTime(found.milliseconds)}.`);
	parts.sizes.report(comparison);
	explainChosen();
}

function chooseHit({ item }) {
	if (item === undefined) return;
	state.chosen = item;
	for (const [place, button] of find("hits").querySelectorAll(".hit-button").entries()) {
		button.setAttribute("aria-pressed", String(state.hits[place] === item));
	}
	say(find("map-caption"), describe(parts.comparison.items[item]));
	explainChosen();
}

/** Explain the chosen result, or the first one. A change of weights alone only writes the numbers anew. */
function explainChosen() {
	if (!state.model.components_named || !state.hits.length) return;
	const item = (state.explained = state.chosen ?? state.hits[0]);
	const document = getRow(parts.comparison.shaped, item);
	const key = JSON.stringify([find("query").value, item]);
	if (parts.concepts.key === key) parts.concepts.update(state.vector, document);
	else parts.concepts.explain(state.vector, document, describe(parts.comparison.items[item]));
	parts.concepts.key = key;
}

function showPoint(item) {
	const chosen = item ?? state.chosen;
	const label = chosen === null || !state.predictions ? "" : ` (${state.predictions[chosen]?.label ?? "none of these"})`;
	say(find("map-caption"), chosen === null || !parts.comparison.items[chosen] ? "" : `${describe(parts.comparison.items[chosen])}${label}`);
}

/** Search for the text of a point that was chosen on the map. */
function choosePoint(item) {
	const own = parts.comparison.items[item];
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
	showQueryImage();
	search();
}

function showQueryImage() {
	const item = state.image;
	show(find("query-image"), item !== null);
	find("query-image").replaceChildren(...(item === null ? [] : [
		make("img", { src: item.image, alt: item.name }), make("span", { text: item.name }),
		make("button", { type: "button", text: "Remove", on: { click: () => useImage(null) } }),
	]));
}

/** Show the parts that belong to the chosen source. */
function changeSource() {
	const isOwn = !parts.indexes?.index;
	for (const name of ["map-section", "texts-section"]) show(find(name), isOwn);
	find("size-section").classList.toggle("away", !isOwn);
	if (parts.map) search();
}

// -- listeners --

function listen() {
	const readFiles = guard(async (files) => parts.inputs.readFiles(files));
	const useFile = guard(async ([file]) => useImage(await parts.inputs.readImage(file)));
	find("query").addEventListener("input", debounce(() => {
		state.chosen = null;
		search();
	}, 120));
	find("query").addEventListener("keydown", (event) => {
		if (event.key === "ArrowDown") {
			event.preventDefault();
			find("hits").querySelector(".hit-button")?.focus();
		}
	});
	find("lines").addEventListener("input", debounce(() => {
		show(find("column-choice"), false);
		refreshItems();
	}, 500));
	find("file").addEventListener("change", (event) => takeFiles(event.target, readFiles));
	find("query-file").addEventListener("change", (event) => takeFiles(event.target, useFile));
	find("column").addEventListener("change", guard(() => parts.inputs.useColumn()));
	find("model").addEventListener("change", guard(() => openModel(state.about.models.find(({ id }) => id === find("model").value))));
	find("stop").addEventListener("click", () => {
		working?.abort();
		show(find("work"), false);
		say(find("texts-status"), "Stopped. Change the texts to go on.");
	});
	find("clear").addEventListener("click", () => {
		parts.inputs.clear();
		refreshItems();
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

start();
