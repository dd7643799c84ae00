// The user's own texts and images, and their vectors. Vectors are asked for in batches, and kept for each space.

import { embed, makeBatches } from "./api.js";
import { stack } from "./vectors.js";

const BATCH = 64;
const BATCH_CHARACTERS = 400_000;
const KEPT_QUERIES = 200;
const KEPT_TIMES = 15;
const LEAST_TIMED = 16;

/** An item is a text, `{image, name}` with a data URL, or a list of numbers. Return its key in a cache. */
export const getKey = (item) => (typeof item === "string" ? item : JSON.stringify(item.image ?? item));

/** Return the item as the server reads it. */
export const getInput = (item) => (typeof item === "string" || Array.isArray(item) ? item : { image: item.image, ...(item.text && { text: item.text }) });

/** Return the item in words. */
export function describe(item) {
	if (typeof item === "string") return item;
	return Array.isArray(item) ? item.join(", ") : [item.text, item.name].filter(Boolean).join(" · ");
}

/** Vectors of one model. A space is the fields of a request that decide what a vector means. */
export class Vectors {
	constructor(model, most) {
		Object.assign(this, { model, most: Math.min(BATCH, most), spaces: new Map() });
	}

	#open(fields) {
		const key = JSON.stringify(fields);
		if (!this.spaces.has(key)) this.spaces.set(key, { items: new Map(), queries: new Map(), times: [], bulk: null });
		return this.spaces.get(key);
	}

	/** Return the matrix of items. Only new ones are sent; `report` gets the numbers of items that are done, and of all. */
	async encode(items, fields, signal, report = () => {}) {
		const space = this.#open(fields);
		const missing = new Map(items.map((item) => [getKey(item), item]).filter(([key]) => !space.items.has(key)));
		const keys = [...missing.keys()];
		const inputs = [...missing.values()].map(getInput);
		let done = 0;
		let server = 0;
		const role = this.model.has_roles || fields.output_dtype === "decoded" ? { input_type: "document" } : {};
		for (const batch of makeBatches(inputs, this.most, BATCH_CHARACTERS)) {
			report(done, inputs.length);
			const answer = await embed(this.model.id, batch, { ...role, ...fields }, signal);
			answer.vectors.forEach((vector, i) => space.items.set(keys[done + i], vector));
			done += batch.length;
			server += answer.server;
		}
		if (done) {
			report(done, done);
			space.bulk = { count: done, server };
		}
		return stack(items.map((item) => space.items.get(getKey(item))));
	}

	/** Return the vector of a query, and keep it together with the time that it took. */
	async encodeQuery(item, fields, signal) {
		const space = this.#open(fields);
		const key = getKey(item) + (item.text ?? "");
		if (space.queries.has(key)) return space.queries.get(key);
		const role = this.model.has_roles || fields.output_dtype === "decoded" ? { input_type: "query" } : {};
		const answer = await embed(this.model.id, [getInput(item)], { ...role, ...fields }, signal);
		if (space.queries.size >= KEPT_QUERIES) space.queries.delete(space.queries.keys().next().value);
		space.queries.set(key, answer.vectors[0]);
		space.times = [...space.times, answer.server].slice(-KEPT_TIMES);
		return answer.vectors[0];
	}

	/** Return the median milliseconds of a query in a space, or NaN. */
	getQueryTime(fields) {
		const times = this.#open(fields).times.toSorted((a, b) => a - b);
		return times.length ? times[times.length >> 1] : Number.NaN;
	}

	/** Return the milliseconds of a text when many were encoded together, or NaN. Few texts say too little. */
	getTextTime(fields) {
		const { bulk } = this.#open(fields);
		return bulk?.count >= LEAST_TIMED ? bulk.server / bulk.count : Number.NaN;
	}
}

/** Read an image file as a data URL of at most `most` bytes; a larger image is made smaller. Throw Error. */
export async function readImage(file, most) {
	if (file.size <= most && /^image\/(png|jpeg|webp|gif|bmp)$/.test(file.type)) return { image: await readUrl(file), name: file.name };
	const bitmap = await createImageBitmap(file).catch(() => {
		throw new Error(`${file.name}: is not an image that this browser can read`);
	});
	const scale = Math.min(1, 1024 / Math.max(bitmap.width, bitmap.height));
	const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
	canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
	return { image: await readUrl(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 })), name: file.name };
}

function readUrl(blob) {
	return new Promise((resolve, reject) => {
		const reader = new FileReader();
		reader.onload = () => resolve(reader.result);
		reader.onerror = () => reject(new Error("the file cannot be read"));
		reader.readAsDataURL(blob);
	});
}
