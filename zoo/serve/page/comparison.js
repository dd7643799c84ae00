// The user's items ranked by a cut of the model, beside the ranking of the full model.

import { compareRankings, cut, getRow, measureKept, pick, rank, score, shapeVectors, spread, stack, store } from "./vectors.js";

const TOP = 10;
const QUERIES = 100;

/** Matrices of some items. `full` is that of the full model, `shaped` that of the cut before it is stored, `cut` after that. */
export class Comparison {
	constructor(model, vectors, sizes, concepts) {
		Object.assign(this, { vectors, sizes, concepts, isUnit: model.similarity !== "dot", items: [], full: null, cut: null });
	}

	/** Take other items. They replace the old ones only when all their vectors are there. */
	async setItems(items, signal, report) {
		const full = await this.vectors.encode(items, {}, signal, report);
		signal.throwIfAborted();
		Object.assign(this, { items, full: cut(full, full.width, this.isUnit), raw: full, cut: null });
	}

	/** Encode the items as the controls say, and compare them with the full model. */
	async apply(signal, report) {
		if (!this.full) return;
		const { fields, choice } = this.sizes;
		const source = Object.keys(fields).length ? await this.vectors.encode(this.items, fields, signal, report) : this.raw;
		signal.throwIfAborted();
		Object.assign(this, { source, applied: { fields, choice } });
		await this.weigh(signal);
	}

	/** Compare anew after other weights of concepts. Items are not encoded again. */
	async weigh(signal) {
		if (!this.source || !this.full) return;
		const { fields, choice } = this.applied;
		const isChanged = !choice.isFull || this.concepts.weights.size > 0;
		const shaped = this.#shape(this.source);
		const stored = isChanged ? store(shaped, choice.store) : this.full;
		const kept = choice.isFull || this.full.count < 3 ? null : await this.#measure(shaped, stored, fields, signal);
		Object.assign(this, { isChanged, shaped, cut: stored, kept });
	}

	#shape(matrix) {
		return shapeVectors(matrix, this.applied.choice, this.concepts, this.isUnit);
	}

	/** Measure the share of the first results that stays if some of the items are the queries. */
	async #measure(shaped, stored, fields, signal) {
		const rows = spread(this.full.count, QUERIES);
		let queries = pick(shaped, rows);
		if (fields.output_dtype === "decoded") {
			const vectors = [];
			for (const row of rows) vectors.push(await this.vectors.encodeQuery(this.items[row], fields, signal));
			queries = stack(vectors);
		}
		const mean = measureKept(this.full, stored, rows, pick(this.full, rows), queries, TOP);
		return { mean, queries: rows.length, size: Math.min(TOP, this.full.count - 1), query: null };
	}

	/** Rank the items for a query: with the cut, and with the full model. Return null if they are not encoded yet. */
	async search(query, signal) {
		const { fields } = this.applied ?? {};
		if (!fields) return null;
		const own = await this.vectors.encodeQuery(query, fields, signal);
		const whole = await this.vectors.encodeQuery(query, {}, signal);
		if (!this.cut?.count || fields !== this.applied.fields) return null;
		const begin = performance.now();
		const unit = getRow(cut(stack([whole]), whole.length, this.isUnit), 0);
		const vector = this.isChanged ? getRow(this.#shape(stack([own])), 0) : unit;
		const scores = score(this.cut, vector);
		const order = rank(scores);
		const milliseconds = performance.now() - begin;
		const { kept, moves } = compareRankings(rank(score(this.full, unit)), order, TOP);
		if (this.kept) this.kept.query = kept;
		const hits = order.slice(0, TOP).map((item) => ({ item, score: scores[item], move: this.isChanged ? moves.get(item) : null }));
		return { hits, vector, whole, milliseconds };
	}

	/** Return the milliseconds of a query and of a text, with the full model and with the cut. */
	get times() {
		const read = (fields) => ({ query: this.vectors.getQueryTime(fields), text: this.vectors.getTextTime(fields) });
		return { full: read({}), cut: read(this.applied?.fields ?? {}) };
	}
}
