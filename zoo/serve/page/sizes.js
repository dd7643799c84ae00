// The controls of a smaller model, and the table that compares it with the full one.

import { find, formatCount, formatTime, make, say, show } from "./dom.js";
import { STORES } from "./vectors.js";

/** Return the numbers of components between which the slider moves: trained ones, or else powers of two. */
export function listSizes(model) {
	const { sizes, dimensions, view_options: options } = model;
	if (sizes.length > 1 || !options.includes("dim")) return sizes;
	const powers = [8, 16, 32, 64, 128, 256, 512, 1024, 2048].filter((size) => size < dimensions);
	return [...powers, dimensions];
}

/** Return the bytes of a stored vector. */
export function countBytes(model, choice) {
	if (choice.store === "codes") return model.code_bytes;
	if (choice.isFull) return model.bytes_per_vector;
	return Math.ceil((choice.size * STORES.find(({ name }) => name === choice.store).bits) / 8);
}

/** The controls. `onChange` is called after a change, with whether other vectors are needed. */
export class Sizes {
	constructor(model, onChange) {
		this.model = model;
		this.sizes = listSizes(model);
		const isCode = model.gives_codes && model.code_bytes === null;
		const stores = isCode ? STORES.slice(0, 1) : STORES;
		const codes = model.code_bytes === null ? [] : [{ name: "codes", label: `codes of the model, ${model.code_bytes} bytes` }];
		const labels = isCode ? [{ name: "float32", label: "codes of the model" }] : [...stores, ...codes];
		find("store").replaceChildren(...labels.map(({ name, label }) => make("option", { value: name, text: label })));
		find("precision").replaceChildren(...model.precisions.map((name) => make("option", { value: name, text: name })));
		Object.assign(find("layers"), { max: model.layers ?? 1 });
		Object.assign(find("size"), { max: this.sizes.length - 1 });
		show(find("layers-control"), model.layers > 1);
		show(find("size-control"), this.sizes.length > 1);
		show(find("precision-control"), model.precisions.length > 1);
		show(find("size-section"), model.layers > 1 || this.sizes.length > 1 || labels.length > 1 || model.precisions.length > 1);
		for (const name of ["layers", "size", "store", "precision"]) find(name).oninput = () => this.#change(onChange);
		find("reset-size").onclick = () => {
			this.reset();
			onChange();
			find("layers").focus();
		};
		this.reset();
	}

	/** Choose the full model. */
	reset() {
		find("layers").value = String(this.model.layers ?? 1);
		find("size").value = String(this.sizes.length - 1);
		find("store").value = "float32";
		find("precision").value = this.model.precision;
		this.#write();
	}

	#change(onChange) {
		const isCodes = find("store").value === "codes";
		// A step for codes was fitted on the vectors of the whole model.
		if (isCodes) {
			find("layers").value = String(this.model.layers ?? 1);
			find("size").value = String(this.sizes.length - 1);
		}
		for (const name of ["layers", "size"]) find(name).disabled = isCodes;
		this.#write();
		onChange();
	}

	/** Return the choice: layers, size, store, precision, and whether it is the full model. */
	get choice() {
		const layers = this.model.layers === null ? null : Number(find("layers").value);
		const size = this.sizes[Number(find("size").value)];
		const [store, precision] = [find("store").value || "float32", find("precision").value || this.model.precision];
		const isFull = layers === this.model.layers && size === this.sizes.at(-1) && store === "float32" && precision === this.model.precision;
		return { layers, size, store, precision, isFull };
	}

	/** Return the fields of a request for the vectors of the choice, before they are cut and stored. */
	get fields() {
		const { layers, store, precision } = this.choice;
		return {
			...(layers !== null && layers < this.model.layers && { layers }),
			...(precision !== this.model.precision && { precision }),
			...(store === "codes" && { output_dtype: "decoded" }),
		};
	}

	#write() {
		const { layers, size, isFull } = this.choice;
		find("layers-value").textContent = `${layers} of ${this.model.layers}`;
		find("size-value").textContent = `${formatCount(size)} of ${formatCount(this.model.dimensions)}`;
		find("layers").setAttribute("aria-valuetext", `${layers} of ${this.model.layers} layers`);
		find("size").setAttribute("aria-valuetext", `${size} of ${this.model.dimensions} dimensions`);
		show(find("reset-size"), !isFull);
	}

	/** Write the table, and the share of the first results that stays. */
	report({ times, kept }) {
		const { model, choice } = this;
		const rows = [
			["Bytes of a vector", formatCount(model.bytes_per_vector), formatCount(countBytes(model, choice))],
			["Time of a query", formatTime(times.full.query), formatTime(times.cut.query)],
			["Time of a text, many at once", formatTime(times.full.text), formatTime(times.cut.text)],
		];
		find("compare").replaceChildren(...rows.map(([name, full, cut]) => make("tr", {},
			make("th", { scope: "row", text: name }), make("td", { text: full }), make("td", { text: choice.isFull ? "" : cut }))));
		const share = (value) => `${Math.round(100 * value)} %`;
		const figure = find("kept");
		if (choice.isFull || !kept) {
			say(figure, choice.isFull ? "This is the full model. Choose a smaller one to see which results it keeps." : "");
			figure.classList.remove("has-figure");
			return;
		}
		figure.classList.add("has-figure");
		const own = kept.query === null ? "" : ` For this query: ${share(kept.query)}.`;
		const text = `of the first ${kept.size} results stay, over ${kept.queries} of your texts as queries.${own}`;
		if (figure.textContent !== `${share(kept.mean)} ${text}`) {
			figure.replaceChildren(make("strong", { text: share(kept.mean) }), ` ${text}`);
		}
	}
}
