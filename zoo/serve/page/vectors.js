// Arithmetic of vectors: scores, rankings, smaller copies, and the map. A matrix is {count, width, data} with rows in `data`.

/** Put vectors of one length into a matrix. */
export function stack(vectors) {
	const width = vectors.length ? vectors[0].length : 0;
	const data = new Float32Array(vectors.length * width);
	vectors.forEach((vector, row) => data.set(vector, row * width));
	return { count: vectors.length, width, data };
}

/** Return row number `row` without a copy. */
export const getRow = ({ width, data }, row) => data.subarray(row * width, (row + 1) * width);

function copyMatrix(matrix) {
	return { ...matrix, data: Float32Array.from(matrix.data) };
}

/** Scale a vector to length 1 in place; a vector of zeros stays. Return it. */
export function normalise(vector) {
	let sum = 0;
	for (const value of vector) sum += value * value;
	if (sum > 0) {
		const factor = 1 / Math.sqrt(sum);
		for (let i = 0; i < vector.length; i += 1) vector[i] *= factor;
	}
	return vector;
}

/** Return the first `width` components of each row, with length 1 if `isUnit`. */
export function cut(matrix, width, isUnit) {
	const result = { count: matrix.count, width, data: new Float32Array(matrix.count * width) };
	for (let row = 0; row < matrix.count; row += 1) {
		const own = getRow(result, row);
		own.set(getRow(matrix, row).subarray(0, width));
		if (isUnit) normalise(own);
	}
	return result;
}

/** The ways to store a component: name, bits of a component, and what it is called. */
export const STORES = [
	{ name: "float32", bits: 32, label: "float32" },
	...(Math.f16round ? [{ name: "float16", bits: 16, label: "float16" }] : []),
	{ name: "int8", bits: 8, label: "int8, ranges of these texts" },
	{ name: "binary", bits: 1, label: "1 bit, the sign" },
];

/** Return documents as they are after they were stored: rounded, and as float32 again. */
export function store(matrix, name) {
	const result = copyMatrix(matrix);
	const { count, width, data } = result;
	if (name === "float16") for (let i = 0; i < data.length; i += 1) data[i] = Math.f16round(data[i]);
	else if (name === "binary") for (let i = 0; i < data.length; i += 1) data[i] = (data[i] > 0 ? 1 : -1) / Math.sqrt(width);
	else if (name === "int8") {
		for (let column = 0; column < width; column += 1) {
			let low = Infinity;
			let high = -Infinity;
			for (let i = column; i < data.length; i += width) {
				low = Math.min(low, data[i]);
				high = Math.max(high, data[i]);
			}
			const step = (high - low) / 255;
			if (step > 0) for (let row = 0; row < count; row += 1) {
				const i = row * width + column;
				data[i] = low + Math.round((data[i] - low) / step) * step;
			}
		}
	}
	return result;
}

/** Multiply the contributions of components to every score, as `Encoder.edit` of sesa does: both sides get the root.
 *  The first `named` components keep their length in all. `weights` maps components to factors. */
export function applyWeights(matrix, weights, named) {
	const result = copyMatrix(matrix);
	for (let row = 0; row < result.count; row += 1) {
		const part = getRow(result, row).subarray(0, named);
		const before = norm(part);
		for (const [component, weight] of weights) part[component] *= Math.sqrt(weight);
		const after = norm(part);
		if (after > 0) for (let i = 0; i < named; i += 1) part[i] *= before / after;
	}
	return result;
}

/** Return vectors with weights of concepts, cut to their first components. Codes of the model are not cut. */
export function shapeVectors(matrix, { size, store: way }, { weights, count: named }, isUnit) {
	const weighted = weights.size ? applyWeights(matrix, weights, named) : matrix;
	return way === "codes" ? weighted : cut(weighted, Math.min(size, weighted.width), isUnit);
}

function norm(vector) {
	let sum = 0;
	for (const value of vector) sum += value * value;
	return Math.sqrt(sum);
}

/** Return the inner product of each row with a vector. */
export function score(matrix, vector) {
	const { count, width, data } = matrix;
	const scores = new Float32Array(count);
	for (let row = 0, i = 0; row < count; row += 1) {
		let sum = 0;
		for (let j = 0; j < width; j += 1, i += 1) sum += data[i] * vector[j];
		scores[row] = sum;
	}
	return scores;
}

/** Return row numbers, the best score first; equal scores in their order. */
export function rank(scores) {
	return Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
}

/** Compare two rankings of the same rows: the share of the first `top` that stays, and by how many places each row moved up. */
export function compareRankings(full, other, top = 10) {
	const size = Math.min(top, full.length);
	const best = new Set(full.slice(0, size));
	const kept = other.slice(0, size).filter((row) => best.has(row)).length;
	const place = new Int32Array(full.length);
	full.forEach((row, number) => (place[row] = number));
	const moves = new Map(other.map((row, number) => [row, place[row] - number]));
	return { kept: size ? kept / size : 1, moves };
}

/** Return the numbers of at most `most` rows, evenly spaced. */
export function spread(count, most) {
	const size = Math.min(count, most);
	return Array.from({ length: size }, (_, i) => Math.floor((i * count) / size));
}

/** Return the rows of a matrix with these numbers as a matrix. */
export const pick = (matrix, rows) => stack(rows.map((row) => getRow(matrix, row)));

/** Return the numbers of the `size` best rows, the best first. It is `rank` for a few rows, without sorting all. */
export function findBest(scores, size, left = -1) {
	const best = [];
	for (let row = 0; row < scores.length; row += 1) {
		if (row === left || (best.length === size && scores[row] <= scores[best[size - 1]])) continue;
		let place = best.length;
		while (place > 0 && scores[best[place - 1]] < scores[row]) place -= 1;
		best.splice(place, 0, row);
		if (best.length > size) best.pop();
	}
	return best;
}

/** Return the mean share of the top that stays if `rows` themselves are the queries. A row is not its own result.
 *  `queries` and `otherQueries` hold one query for each of these rows. */
export function measureKept(full, other, rows, queries, otherQueries, top = 10) {
	const size = Math.min(top, full.count - 1);
	if (size < 1 || !rows.length) return 1;
	const list = (matrix, query, row) => findBest(score(matrix, query), size, row);
	const shares = rows.map((row, i) => {
		const best = new Set(list(full, getRow(queries, i), row));
		return list(other, getRow(otherQueries, i), row).filter((found) => best.has(found)).length / size;
	});
	return shares.reduce((sum, share) => sum + share, 0) / shares.length;
}

// -- the map --

const PASSES = 60;
const EXTRA = 4;
const FITTED = 1500;

/** Return the first two principal components: mean, two axes, a point for each row, and the share of the variance. */
export function computeMap(matrix) {
	const { count, width } = matrix;
	const rows = spread(count, FITTED);
	const mean = new Float64Array(width);
	for (const row of rows) getRow(matrix, row).forEach((value, i) => (mean[i] += value / rows.length));
	const centred = rows.map((row) => Float64Array.from(getRow(matrix, row), (value, i) => value - mean[i]));
	const total = centred.reduce((sum, row) => sum + dot(row, row), 0);
	const axes = findAxes(centred, width, Math.min(2 + EXTRA, width));
	const used = axes.slice(0, 2);
	while (used.length < 2) used.push(new Float64Array(width));
	const points = Array.from({ length: count }, (_, row) => project({ mean, axes: used }, getRow(matrix, row)));
	const explained = centred.reduce((sum, row) => sum + used.reduce((own, axis) => own + dot(row, axis) ** 2, 0), 0);
	return { mean, axes: used, points, share: total > 0 ? explained / total : 0 };
}

/** Return the point of a vector on a map. */
export function project({ mean, axes }, vector) {
	return axes.map((axis) => axis.reduce((sum, value, i) => sum + value * (vector[i] - mean[i]), 0));
}

function dot(a, b) {
	let sum = 0;
	for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
	return sum;
}

/** Find the directions of largest variance by subspace iteration, from a start that is always the same. */
function findAxes(rows, width, size) {
	let seed = 1;
	const next = () => (seed = (seed * 48271) % 2147483647) / 2147483647 - 0.5;
	let basis = orthonormalise(Array.from({ length: size }, () => Float64Array.from({ length: width }, next)));
	let before = [];
	for (let pass = 0; pass < PASSES; pass += 1) {
		const images = basis.map(() => new Float64Array(width));
		for (const row of rows) {
			basis.forEach((axis, k) => {
				const weight = dot(row, axis);
				const image = images[k];
				for (let i = 0; i < width; i += 1) image[i] += weight * row[i];
			});
		}
		const sizes = images.map((image, k) => dot(image, basis[k]));
		basis = orthonormalise(images);
		if (pass > 4 && sizes.slice(0, 2).every((value, k) => Math.abs(value - before[k]) <= 1e-10 * value)) break;
		before = sizes;
	}
	return rotate(rows, basis).map(orient);
}

function orthonormalise(vectors) {
	const kept = [];
	for (const vector of vectors) {
		const start = norm(vector);
		for (let repeat = 0; repeat < 2; repeat += 1) {
			for (const other of kept) {
				const weight = dot(vector, other);
				for (let i = 0; i < vector.length; i += 1) vector[i] -= weight * other[i];
			}
		}
		if (norm(vector) > 1e-9 * start && start > 0) kept.push(normalise(vector));
	}
	return kept;
}

/** Turn a basis so that its axes are the principal ones inside its span, the largest first (Jacobi's rotations). */
function rotate(rows, basis) {
	const size = basis.length;
	const values = Array.from({ length: size }, () => new Float64Array(size));
	for (const row of rows) {
		const own = basis.map((axis) => dot(row, axis));
		for (let a = 0; a < size; a += 1) for (let b = 0; b < size; b += 1) values[a][b] += own[a] * own[b];
	}
	for (let sweep = 0; sweep < 30; sweep += 1) {
		for (let a = 0; a < size; a += 1) {
			for (let b = a + 1; b < size; b += 1) {
				const angle = 0.5 * Math.atan2(2 * values[a][b], values[b][b] - values[a][a]);
				const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
				const mix = (left, right) => left.forEach((value, i) => {
					left[i] = cosine * value - sine * right[i];
					right[i] = sine * value + cosine * right[i];
				});
				mix(values[a], values[b]);
				for (const line of values) [line[a], line[b]] = [cosine * line[a] - sine * line[b], sine * line[a] + cosine * line[b]];
				mix(basis[a], basis[b]);
			}
		}
	}
	return basis.map((axis, i) => [values[i][i], axis]).sort((a, b) => b[0] - a[0]).map(([, axis]) => axis);
}

/** Turn an axis so that its largest component is positive. Otherwise the map could be mirrored after a reload. */
function orient(axis) {
	const largest = axis.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
	return largest < 0 ? axis.map((value) => -value) : axis;
}
