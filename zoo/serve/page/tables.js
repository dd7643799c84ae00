// Reads the files that are dropped on the page: csv, tsv, jsonl, and txt with one text in a line.

export const MAX_ROWS = 10_000;
const TEXT_NAMES = ["text", "texts", "sentence", "document", "body", "content", "title", "anchor", "question"];

/** Return the cells of a table, row by row. Quoted cells may hold separators, quotes written twice, and line ends. */
export function parseCells(text, separator = ",") {
	const rows = [];
	let row = [];
	let cell = "";
	let isQuoted = false;
	const source = text.replace(/^\uFEFF/, "");
	for (let place = 0; place < source.length; place += 1) {
		const sign = source[place];
		if (isQuoted) {
			if (sign !== '"') cell += sign;
			else if (source[place + 1] === '"') {
				cell += '"';
				place += 1;
			} else isQuoted = false;
		} else if (sign === '"' && cell === "") isQuoted = true;
		else if (sign === separator) {
			row.push(cell);
			cell = "";
		} else if (sign === "\n" || sign === "\r") {
			if (sign === "\r" && source[place + 1] === "\n") place += 1;
			rows.push([...row, cell]);
			row = [];
			cell = "";
		} else cell += sign;
	}
	if (cell !== "" || row.length) rows.push([...row, cell]);
	return rows.filter((cells) => cells.length > 1 || cells[0] !== "");
}

/** Return the separator that occurs most in the first line. */
export function guessSeparator(text) {
	const line = text.split("\n", 1)[0];
	const counts = [",", "\t", ";"].map((sign) => [line.split(sign).length, sign]);
	return counts.reduce((best, next) => (next[0] > best[0] ? next : best))[1];
}

/** Return the lines of a text that are not empty, without spaces around them. */
export function splitLines(text) {
	return text.split(/\r\n|\r|\n/).map((line) => line.trim()).filter(Boolean);
}

function readObjects(text) {
	return splitLines(text).map((line, number) => {
		let value;
		try {
			value = JSON.parse(line);
		} catch {
			throw new Error(`line ${number + 1} is not valid JSON`);
		}
		return value !== null && typeof value === "object" && !Array.isArray(value) ? value : { text: value };
	});
}

/** Read a file by the end of its name. Return its columns and its rows, which map columns to texts. Throw Error. */
export function readTable(name, text) {
	if (/\.(jsonl|ndjson)$/i.test(name)) {
		const objects = readObjects(text);
		const columns = [...new Set(objects.flatMap((object) => Object.keys(object)))];
		const write = (value) => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value));
		return { columns, rows: objects.map((object) => new Map(columns.map((column) => [column, write(object[column])]))) };
	}
	if (/\.(csv|tsv)$/i.test(name)) {
		const [header, ...cells] = parseCells(text, /\.tsv$/i.test(name) ? "\t" : guessSeparator(text));
		if (!header) throw new Error("the file is empty");
		const rows = cells.map((row) => new Map(header.map((column, place) => [column, row[place] ?? ""])));
		return { columns: header, rows };
	}
	return { columns: ["text"], rows: splitLines(text).map((line) => new Map([["text", line]])) };
}

/** Return the column that holds the texts: one with a usual name, or else the one with the longest cells. */
export function chooseColumn({ columns, rows }) {
	const named = columns.find((column) => TEXT_NAMES.includes(column.trim().toLowerCase()));
	if (named !== undefined) return named;
	const sample = rows.slice(0, 200);
	const measure = (column) => sample.reduce((sum, row) => sum + row.get(column).length, 0);
	return columns.reduce((best, next) => (measure(next) > measure(best) ? next : best));
}

/** Return the texts of a column, each in one line. */
export function listTexts({ rows }, column) {
	return rows.map((row) => row.get(column).replace(/\s+/g, " ").trim()).filter(Boolean);
}

/** Return the numbers of a line such as `0.1, -2, 3e4` or `[0.1, -2]`, or null. */
export function parseNumbers(line) {
	const parts = line.replace(/^\s*\[|\]\s*$/g, "").split(/[\s,;]+/).filter(Boolean);
	const numbers = parts.map(Number);
	return numbers.length && numbers.every(Number.isFinite) ? numbers : null;
}

/** Write a condition for a search: a name in backquotes if it needs them, and texts and dates in quotes. */
export function writeCondition(column, kind, test, value) {
	const isPlain = /^[A-Za-z_][\w.-]*$/.test(column) && !/^(and|or|not|in|is|null|true|false)$/i.test(column);
	const name = isPlain ? column : `\`${column}\``;
	if (test === "is null" || test === "is not null") return `${name} ${test}`;
	const isBare = ["whole", "number"].includes(kind) || (kind === "flag" && /^(true|false)$/i.test(value.trim()));
	const quoted = `"${value.replace(/\\/g, "\\\\").replace(/"/g, '\\"')}"`;
	return `${name} ${test} ${isBare ? value.trim().toLowerCase() : quoted}`;
}
