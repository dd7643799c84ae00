// What the user gives: lines, tables and images, as far as the model reads them.

import { readImage } from "./collection.js";
import { find, make, say, show } from "./dom.js";
import { chooseColumn, listTexts, parseNumbers, readTable, splitLines } from "./tables.js";

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
	"Which colours is the jacket available in?",
	"The shoes are too small, can I exchange them?",
	"A light rain fell over the harbour all morning",
	"Snow is expected in the mountains tonight",
	"The orchestra played the second symphony",
	"She walked her dog along the river",
	"The cat sleeps on the warm window sill",
	"The recipe needs two eggs and a cup of flour",
	"Let the dough rest for an hour before baking",
	"The home team scored in the last minute",
	"He ran the marathon in under three hours",
	"The telescope found a planet near a small star",
	"Bees find their way home by the light of the sky",
	"The train to the coast leaves at seven",
];

/** The inputs of a model. `onChange` is called after a file was read, and `onImage` with a picture that was clicked. */
export class Inputs {
	constructor(model, imageBytes, pictures, onChange, onImage) {
		Object.assign(this, { model, imageBytes, pictures, onChange, onImage, table: null });
		this.reads = (kind) => model.modalities.includes(kind);
		this.hasLines = this.reads("text") || this.reads("vector");
		this.hasImages = this.reads("image");
		this.noun = this.reads("text") ? "text" : this.hasImages ? "image" : "vector";
		this.#describe();
		this.renderPictures();
	}

	#describe() {
		const { hasLines, hasImages, noun } = this;
		for (const name of ["query", "lines"]) show(find(name), hasLines);
		for (const name of ["query-file-label", "query-hint"]) show(find(name), hasImages);
		show(find("column-choice"), false);
		find("texts-title").textContent = `Your ${noun}s`;
		say(find("map-note"), `The two directions in which your ${noun}s differ most. Arrow keys go from point to point.`);
		say(find("texts-note"), `${hasLines ? "One in a line. " : ""}They stay in this page; the server only turns them into vectors.`);
		find("file").accept = [...(hasLines ? [".csv", ".tsv", ".txt", ".jsonl"] : []), ...(hasImages ? ["image/*"] : [])].join(",");
		say(find("drop-note"), `or drop ${[hasLines && "a csv, txt or jsonl", hasImages && "images"].filter(Boolean).join(", or ")} here`);
		say(find("query-hint"), hasLines ? "or drop an image here" : "Choose an image, drop one here, or click one of yours below.");
		find("query").placeholder = this.reads("text") ? "Type a few words…" : "Numbers, with spaces between them";
		const examples = EXAMPLES.join("\n");
		if (this.reads("text") && !find("lines").value) find("lines").value = examples;
		if (!this.reads("text") && find("lines").value === examples) find("lines").value = "";
	}

	/** Return all items. */
	get items() {
		const lines = splitLines(find("lines").value);
		const typed = this.reads("text") ? lines : this.reads("vector") ? lines.map(parseNumbers).filter(Boolean) : [];
		return [...typed, ...(this.hasImages ? this.pictures : [])];
	}

	/** Return what is searched for, or null. */
	readQuery(image) {
		const text = this.hasLines ? find("query").value.trim() : "";
		if (image) return this.model.mixed_inputs && text ? { ...image, text } : image;
		return !text ? null : this.reads("text") ? text : parseNumbers(text);
	}

	/** Show the images. */
	renderPictures() {
		const pictures = this.hasImages ? this.pictures : [];
		show(find("pictures"), pictures.length > 0);
		find("pictures").replaceChildren(...pictures.map((item) => make("li", {}, make("button", {
			type: "button", class: "picture", "aria-label": `Use ${item.name}`, on: { click: () => this.onImage(item) },
		}, make("img", { src: item.image, alt: "" })))));
	}

	/** Take files: tables replace the lines, and images are added. Throw Error. */
	async readFiles(files) {
		const images = [];
		for (const file of files) {
			if (file.type.startsWith("image/") && this.hasImages) images.push(await readImage(file, this.imageBytes));
			else if (this.hasLines) await this.#readTable(file);
			else throw new Error(`${file.name}: this model reads images`);
		}
		this.pictures.push(...images);
		this.renderPictures();
		await this.onChange();
	}

	/** Read an image that is searched for. Throw Error. */
	async readImage(file) {
		if (!this.hasImages || !file?.type.startsWith("image/")) throw new Error(`${file?.name ?? "This"}: is not an image that this model reads`);
		return readImage(file, this.imageBytes);
	}

	async #readTable(file) {
		try {
			if (file.size > MAX_FILE_BYTES) throw new Error("has more than 32 MB; use `zoo index` for so many rows");
			const table = readTable(file.name, await file.text());
			if (!table.rows.length) throw new Error("holds no rows");
			this.table = table;
		} catch (error) {
			throw new Error(`${file.name}: ${error.message}`);
		}
		const { columns } = this.table;
		show(find("column-choice"), columns.length > 1);
		find("column").replaceChildren(...columns.map((column) => make("option", { value: column, text: column })));
		find("column").value = chooseColumn(this.table);
		this.#takeColumn();
	}

	#takeColumn() {
		find("lines").value = listTexts(this.table, find("column").value).join("\n");
	}

	/** Use another column of the table. */
	async useColumn() {
		this.#takeColumn();
		await this.onChange();
	}

	/** Forget everything. */
	clear() {
		find("lines").value = "";
		this.pictures.length = 0;
		show(find("column-choice"), false);
		this.renderPictures();
	}
}
