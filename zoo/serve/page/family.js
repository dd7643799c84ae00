// The parts that only some families have: concepts and their weights, classes, and latents.

import { call } from "./api.js";
import { describe, getInput } from "./collection.js";
import { find, make, makeBar, say, show } from "./dom.js";

const SHOWN = 8;
const SUGGESTED = 20;
export const COLOURS = 8;

/** The concepts of sesa: why two texts score as they do, and weights that change it. */
export class Concepts {
	constructor(model, onChange) {
		Object.assign(this, { model, onChange, names: [], weights: new Map(), rows: [], pair: null });
		show(find("why-section"), model.components_named);
	}

	/** Read the names of the concepts. */
	async load() {
		if (!this.model.components_named) return;
		const { data } = await call(`about/concepts?model=${encodeURIComponent(this.model.id)}`);
		this.names = data.concepts.map((concept) => concept.name || concept.id);
		this.#renderEditor();
	}

	get count() {
		return this.names.length;
	}

	/** Explain the score of a query and a document: their vectors as they are compared, or null. */
	explain(query, document, title) {
		this.pair = query && document ? { query, document } : null;
		this.rows = [];
		say(find("why-note"), this.pair ? title : "Choose a result to see the concepts that make its score.");
		const terms = this.pair ? this.#listTerms() : [];
		this.rows = terms.slice(0, SHOWN).map(({ component }) => this.#makeRow(component));
		const rest = make("div", { class: "bar-row rest" }, make("span", { class: "name", text: "all others" }), makeBar(0), make("span", { class: "value" }));
		find("why").replaceChildren(...this.rows.map((row) => row.element), ...(this.pair ? [rest] : []));
		this.rest = rest;
		this.update();
	}

	/** Write the contributions of a pair anew, after weights or vectors have changed. */
	update(query = this.pair?.query, document = this.pair?.document) {
		if (!this.pair) return;
		this.pair = { query, document };
		const terms = new Map(this.#listTerms().map(({ component, value }) => [component, value]));
		const total = query.reduce((sum, value, i) => sum + value * document[i], 0);
		const values = this.rows.map(({ component }) => terms.get(component) ?? 0);
		const rest = total - values.reduce((sum, value) => sum + value, 0);
		const largest = Math.max(1e-9, ...values, rest);
		const write = (element, value) => {
			element.querySelector(".bar").style.setProperty("--share", String(Math.max(0, value / largest)));
			element.querySelector(".value").textContent = value.toFixed(3);
		};
		this.rows.forEach((row, i) => write(row.element, values[i]));
		write(this.rest, rest);
	}

	#listTerms() {
		const { query, document } = this.pair;
		const terms = Array.from({ length: this.count }, (_, component) => ({ component, value: query[component] * document[component] }));
		return terms.filter(({ value }) => value > 0).sort((a, b) => b.value - a.value || a.component - b.component);
	}

	#makeRow(component) {
		const name = make("span", { class: "name", text: this.names[component] });
		return { component, element: make("div", { class: "bar-row" }, name, makeBar(0), make("span", { class: "value" }), this.#makeSlider(component)) };
	}

	#makeSlider(component) {
		return make("input", {
			type: "range", min: "0", max: "3", step: "0.25", value: String(this.weights.get(component) ?? 1),
			"aria-label": `Weight of ${this.names[component]}`, "data-component": component,
			on: { input: (event) => this.setWeight(component, Number(event.target.value)) },
		});
	}

	/** Set the factor of a concept; 1 leaves it as it is. */
	setWeight(component, weight) {
		if (weight === 1) this.weights.delete(component);
		else this.weights.set(component, weight);
		for (const slider of document.querySelectorAll(`[data-component="${component}"]`)) slider.value = String(weight);
		this.#renderWeights();
		this.onChange();
	}

	#renderEditor() {
		const options = make("datalist", { id: "concept-names" });
		const input = make("input", { type: "text", list: "concept-names", id: "concept", autocomplete: "off", on: {
			input: () => {
				const word = input.value.trim().toLowerCase();
				const names = this.names.filter((name) => name.toLowerCase().includes(word)).slice(0, SUGGESTED);
				options.replaceChildren(...names.map((name) => make("option", { value: name })));
			},
			change: () => {
				const component = this.names.indexOf(input.value);
				if (component < 0) return;
				input.value = "";
				this.setWeight(component, this.weights.get(component) ?? 0);
			},
		} });
		this.list = make("ul", { class: "weights", "aria-label": "Weights that differ from 1" });
		find("weights").replaceChildren(make("label", { class: "line", text: "Change the weight of a concept" }, input), options, this.list);
	}

	#renderWeights() {
		if (!this.list) return;
		const items = [...this.weights].map(([component, weight]) => make("li", {},
			make("span", { text: `${this.names[component]} × ${weight}` }),
			make("button", { type: "button", text: "Reset", "aria-label": `Reset ${this.names[component]}`, on: { click: () => this.setWeight(component, 1) } })));
		this.list.replaceChildren(...items);
	}
}

/** Return the classes of a prediction with their probabilities, the best first. */
export function listClasses(prediction) {
	if (prediction.classes) return prediction.classes.map(({ label, probability }) => [String(label), probability]);
	return Object.entries(prediction.confidence ?? {}).sort((a, b) => b[1] - a[1]);
}

/** Say in a sentence which class a prediction has, or that it has no class. */
export function describePrediction(prediction) {
	const [best] = listClasses(prediction);
	if (prediction.label !== null) return `${prediction.label}, with probability ${best[1].toFixed(2)}`;
	return best ? `None of these. The nearest is ${best[0]}, below the threshold.` : "None of these.";
}

/** The classes of equiangular, or the topics of lbl2vec. */
export class Classes {
	constructor(model) {
		this.model = model;
		show(find("classes-section"), model.predicts);
		find("classes-title").textContent = model.family === "lbl2vec" ? "Topics" : "Classes";
		this.show(null);
	}

	/** Return the predictions of items. */
	async predict(items, signal) {
		const { data } = await call("predict", { model: this.model.id, input: items.map(getInput), top: SHOWN }, signal);
		return data.data;
	}

	/** Show the prediction of one item, or nothing. */
	show(prediction) {
		const note = this.model.modalities.includes("text") ? "Type a text to see its class." : "Choose an image to see its class.";
		say(find("verdict"), prediction ? describePrediction(prediction) : note);
		const classes = prediction ? listClasses(prediction).slice(0, SHOWN) : [];
		const rows = classes.map(([name, probability]) => make("div", { class: `bar-row${name === String(prediction.label) ? " chosen" : ""}` },
			make("span", { class: "name", text: name }), makeBar(probability), make("span", { class: "value", text: probability.toFixed(2) })));
		if (prediction) {
			const isNone = prediction.label === null;
			rows.push(make("div", { class: `bar-row none${isNone ? " chosen" : ""}` }, make("span", { class: "name", text: "none of these" }),
				make("span", { class: "value wide-value", text: isNone ? "yes" : "no" })));
		}
		find("classes").replaceChildren(...rows);
	}

	/** Count the classes of predictions. Return the number of a colour for each, and entries of a legend. */
	static sort(predictions) {
		const counts = new Map();
		for (const { label } of predictions) if (label !== null) counts.set(String(label), (counts.get(String(label)) ?? 0) + 1);
		const names = [...counts].sort((a, b) => b[1] - a[1]).map(([name]) => name);
		const colour = new Map(names.slice(0, COLOURS).map((name, i) => [name, i]));
		const legend = names.slice(0, COLOURS).map((name, i) => ({ name, count: counts.get(name), colour: i }));
		const others = predictions.length - legend.reduce((sum, entry) => sum + entry.count, 0);
		if (others) legend.push({ name: names.length > COLOURS ? "others" : "none of these", count: others, colour: "none" });
		return { colours: predictions.map(({ label }) => colour.get(String(label)) ?? null), legend };
	}
}

/** The latents of an autoencoder: an input with one latent changed at a time. */
export class Latents {
	constructor(model) {
		Object.assign(this, { model, running: null });
		show(find("latents-section"), model.latents !== null);
		find("latents").replaceChildren();
	}

	/** Show the traversals of an item, one latent after the other. */
	async traverse(item) {
		this.running?.abort();
		this.running = new AbortController();
		const { signal } = this.running;
		find("latents").replaceChildren();
		say(find("latents-note"), `${describe(item)}: each row changes one latent.`);
		for (let latent = 0; latent < this.model.latents; latent += 1) {
			const { data } = await call("traverse", { model: this.model.id, input: getInput(item), latent }, signal);
			const values = data.data.map((value, i) => (typeof value === "string"
				? make("img", { src: value, alt: `Latent ${latent + 1}, value ${i + 1} of ${data.data.length}` })
				: make("code", { text: value.slice(0, 4).map((number) => number.toFixed(2)).join(" ") })));
			find("latents").append(make("div", { class: "latent" }, make("span", { class: "name", text: String(latent + 1) }), ...values));
		}
	}
}
