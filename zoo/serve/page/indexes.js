// Searches an index that the server holds, with conditions on its columns.

import { call } from "./api.js";
import { find, formatCount, make, show } from "./dom.js";
import { writeCondition } from "./tables.js";

const ORDERED = ["=", "!=", "<", "<=", ">", ">=", "is null", "is not null"];
const UNORDERED = ["=", "!=", "is null", "is not null"];

/** The choice between the user's own texts and the indexes of a model. `onChange` is called after a change. */
export class Indexes {
	constructor(model, onChange) {
		this.indexes = model.searched;
		this.index = null;
		this.onChange = onChange;
		show(find("sources"), this.indexes.length > 0);
		const entries = [{ value: "", label: "my texts" }, ...this.indexes.map(({ name, rows }) => ({ value: name, label: `${name} (${formatCount(rows)} rows)` }))];
		find("source-list").replaceChildren(...entries.map(({ value, label }) => make("label", {},
			make("input", { type: "radio", name: "source", value, checked: value === "", on: { change: () => this.#choose(value) } }), ` ${label}`)));
		find("filter-column").onchange = () => this.#fillTests();
		find("filter-test").onchange = () => this.#showValue();
		find("filter-add").onclick = () => this.#add();
		for (const name of ["where", "hybrid", "relevant"]) find(name).oninput = onChange;
		this.#choose("", false);
	}

	#choose(name, isNew = true) {
		this.index = this.indexes.find((index) => index.name === name) ?? null;
		show(find("filter"), this.index !== null);
		find("where").value = "";
		if (this.index) {
			const { columns } = this.index;
			show(find("filter-parts"), columns.length > 0);
			show(find("relevant-label"), this.index.has_probabilities);
			show(find("hybrid-label"), !this.index.holds_images);
			find("filter-column").replaceChildren(...columns.map((column) => make("option", { value: column.name, text: column.name })));
			this.#fillTests();
		}
		if (isNew) this.onChange();
	}

	#findKind() {
		return this.index?.columns.find(({ name }) => name === find("filter-column").value)?.kind ?? "text";
	}

	#fillTests() {
		const tests = this.#findKind() === "flag" ? UNORDERED : ORDERED;
		find("filter-test").replaceChildren(...tests.map((test) => make("option", { value: test, text: test })));
		this.#showValue();
	}

	#showValue() {
		show(find("filter-value"), !find("filter-test").value.startsWith("is"));
	}

	#add() {
		const condition = writeCondition(find("filter-column").value, this.#findKind(), find("filter-test").value, find("filter-value").value);
		const before = find("where").value.trim();
		find("where").value = before ? `${before} and ${condition}` : condition;
		find("filter-value").value = "";
		this.onChange();
	}

	/** Return the hits of a query as {text, score, notes}, and the milliseconds. */
	async search(input, top, signal) {
		const where = find("where").value.trim();
		const body = {
			query: input, index: this.index.name, top,
			...(where && { where }),
			...(find("hybrid").checked && !this.index.holds_images && { hybrid: true }),
			...(find("relevant").checked && this.index.has_probabilities && { relevant: true }),
		};
		const answer = await call("search", body, signal);
		const hits = answer.data.data[0].hits.map((hit) => ({
			text: hit.place ? hit.text.slice(...hit.place) : hit.text,
			score: hit.score,
			notes: this.#describe(hit),
		}));
		return { ...answer, hits };
	}

	#describe({ id, columns, text, probability }) {
		const isShown = (value) => value !== null && value !== text && String(value) !== id && String(value).length <= 80;
		const cells = Object.entries(columns).filter(([, value]) => isShown(value));
		const chance = probability === null ? [] : [`relevant with probability ${probability.toFixed(2)}`];
		return [`id ${id}`, ...chance, ...cells.slice(0, 6).map(([name, value]) => `${name}: ${value}`)].join(" · ");
	}
}
