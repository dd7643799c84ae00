// Speaks with the server. The key is kept in this module only; it is never stored.

const ATTEMPTS = 5;
const MAX_WAIT = 10;

let key = "";
let asking = null;
let askForKey = async () => null;

/** An answer of the server that says what is wrong. */
export class ApiError extends Error {
	constructor(status, message) {
		super(message);
		this.status = status;
	}
}

/** Set the function that asks for the key. It gets whether a key was wrong, and returns the key, or null. */
export function setKeyReader(ask) {
	askForKey = ask;
}

/** Return the milliseconds that the server took, from the header Server-Timing. */
export function readServerTime(header) {
	const match = /app;dur=([0-9.]+)/.exec(header ?? "");
	return match ? Number(match[1]) : Number.NaN;
}

/** Wait, unless the signal ends it. */
function wait(seconds, signal) {
	return new Promise((resolve, reject) => {
		const timer = setTimeout(resolve, 1000 * seconds);
		signal?.addEventListener("abort", () => {
			clearTimeout(timer);
			reject(signal.reason);
		});
	});
}

/** Ask for the key once, even if several requests need it. */
async function renewKey(used) {
	if (used !== key) return;
	asking ??= askForKey(used !== "").finally(() => (asking = null));
	const answer = await asking;
	if (answer === null) throw new ApiError(401, "The server needs an API key. Load the page again to enter it.");
	key = answer;
}

/** Send a request. Return the parsed answer, the milliseconds of the server, and those in all. Throw ApiError. */
export async function call(path, body, signal) {
	for (let attempt = 1; ; attempt += 1) {
		const used = key;
		const headers = { "content-type": "application/json", ...(used && { authorization: `Bearer ${used}` }) };
		const options = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
		const start = performance.now();
		let response;
		try {
			response = await fetch(path, { ...options, signal });
		} catch (error) {
			if (signal?.aborted) throw error;
			throw new ApiError(0, "The server does not answer. Is it still running?");
		}
		if (response.status === 401) {
			await renewKey(used);
			continue;
		}
		const data = await response.json().catch(() => null);
		if (response.ok && data !== null) {
			const server = readServerTime(response.headers.get("server-timing"));
			return { data, server, total: performance.now() - start };
		}
		const isBusy = response.status === 429 || response.status === 503;
		if (!isBusy || attempt === ATTEMPTS) {
			throw new ApiError(response.status, data?.error?.message ?? `the server answered with status ${response.status}`);
		}
		await wait(Math.min(MAX_WAIT, Number(response.headers.get("retry-after")) || 1), signal);
	}
}

/** Turn base64 of little-endian float32 into numbers. */
export function decodeFloats(text) {
	const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
	return new Float32Array(bytes.buffer);
}

/** Return the vectors of inputs. `fields` are further fields of the request. */
export async function embed(model, input, fields, signal) {
	const body = { model, input, encoding_format: "base64", ...fields };
	const answer = await call("v1/embeddings", body, signal);
	return { vectors: answer.data.data.map((entry) => decodeFloats(entry.embedding)), server: answer.server, total: answer.total };
}

/** Cut inputs into batches of at most `count` inputs and `size` characters; a longer input has a batch of its own. */
export function makeBatches(inputs, count, size) {
	const batches = [];
	let length = Infinity;
	for (const input of inputs) {
		const own = typeof input === "string" ? input.length : JSON.stringify(input).length;
		if (length + own > size || batches.at(-1).length === count) {
			batches.push([]);
			length = 0;
		}
		batches.at(-1).push(input);
		length += own;
	}
	return batches;
}
