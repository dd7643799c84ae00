// The map: a point for each text. Points can be hovered, and reached with the arrow keys.

import { describe } from "./collection.js";
import { draw } from "./dom.js";
import { computeMap, project, spread } from "./vectors.js";

const WIDTH = 640;
const HEIGHT = 400;
const EDGE = 24;
const MOST = 1500;
const NUMBERED = 3;
const DIRECTIONS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

/** Return the point that is nearest in a direction, or null. `places` are [x, y]; sideways distance counts double. */
export function findNeighbour(places, from, [dx, dy]) {
	let best = null;
	let least = Infinity;
	places.forEach(([x, y], number) => {
		const [u, v] = [x - places[from][0], y - places[from][1]];
		const ahead = u * dx + v * dy;
		const cost = ahead + 2 * Math.abs(u * dy - v * dx);
		if (number !== from && ahead > 1e-9 && cost < least) [best, least] = [number, cost];
	});
	return best;
}

/** The map of a matrix. `onPoint` gets the number of an item, or null; `onChoose` gets that of a chosen one. */
export class TextMap {
	constructor(frame, onPoint, onChoose) {
		Object.assign(this, { frame, onPoint, onChoose, items: [], hits: [], colours: null, current: 0, query: null });
	}

	/** Draw the points of items. */
	setItems(items, matrix) {
		Object.assign(this, { items, hits: [], query: null, current: 0, map: items.length > 1 ? computeMap(matrix) : null });
		if (this.map) this.#place();
		this.render();
	}

	/** Mark hits, the best first, and the place of the query. */
	setHits(hits, query) {
		this.hits = hits;
		this.query = query && this.map ? this.#scale(project(this.map, query)) : null;
		this.render();
	}

	/** Colour points by the number of a class, or not at all. */
	setColours(colours) {
		this.colours = colours;
		this.render();
	}

	#place() {
		const { points } = this.map;
		const [low, high] = [0, 1].map((axis) => points.reduce(([a, b], point) => [Math.min(a, point[axis]), Math.max(b, point[axis])], [Infinity, -Infinity]));
		const sizes = [low[1] - low[0] || 1, high[1] - high[0] || 1];
		const factor = Math.min((WIDTH - 2 * EDGE) / sizes[0], (HEIGHT - 2 * EDGE) / sizes[1]);
		this.#frameOf = { factor, centre: [(low[0] + low[1]) / 2, (high[0] + high[1]) / 2] };
		this.places = points.map((point) => this.#scale(point));
	}

	#frameOf = null;

	#scale(point) {
		const { factor, centre } = this.#frameOf;
		const clamp = (value, most) => Math.max(6, Math.min(most - 6, value));
		return [clamp(WIDTH / 2 + factor * (point[0] - centre[0]), WIDTH), clamp(HEIGHT / 2 - factor * (point[1] - centre[1]), HEIGHT)];
	}

	/** Draw everything anew. The focus stays on the map. */
	render() {
		const hadFocus = this.frame.contains(document.activeElement);
		this.frame.replaceChildren();
		if (!this.map) return;
		const ranks = new Map(this.hits.map((item, rank) => [item, rank]));
		const shown = [...new Set([...spread(this.items.length, MOST), ...this.hits, this.current])];
		shown.sort((a, b) => (ranks.has(a) ? 1 : 0) - (ranks.has(b) ? 1 : 0) || (ranks.get(b) ?? 0) - (ranks.get(a) ?? 0));
		const points = shown.map((item) => this.#drawPoint(item, ranks.get(item)));
		const labels = this.hits.slice(0, NUMBERED).map((item, rank) => {
			const [x, y] = this.places[item];
			const isRight = x > WIDTH - 40;
			return draw("text", { x: x + (isRight ? -9 : 9), y: y + 4, class: "rank", "text-anchor": isRight ? "end" : "start", text: String(rank + 1), "aria-hidden": "true" });
		});
		const query = this.query && draw("path", { class: "query", d: `M${this.query[0] - 6} ${this.query[1]}h12M${this.query[0]} ${this.query[1] - 6}v12`, "aria-hidden": "true" });
		const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: "0", role: "listbox", "aria-label": "Map of your texts", "aria-activedescendant": `point-${this.current}`, on: {
			keydown: (event) => this.#press(event),
			focus: () => this.onPoint(this.current),
			blur: () => this.onPoint(null),
		} }, ...points, ...labels, query);
		this.frame.append(picture);
		if (hadFocus) picture.focus({ preventScroll: true });
	}

	#drawPoint(item, rank) {
		const [x, y] = this.places[item];
		const isHit = rank !== undefined;
		const colour = this.colours ? ` colour-${this.colours[item] ?? "none"}` : "";
		return draw("circle", {
			id: `point-${item}`, cx: x.toFixed(1), cy: y.toFixed(1), r: isHit ? 6 : 4, role: "option",
			"aria-label": describe(this.items[item]), "aria-selected": String(isHit),
			class: `point${isHit ? " hit" : ""}${item === this.current ? " current" : ""}${colour}`,
			on: { pointerenter: () => this.onPoint(item), pointerleave: () => this.onPoint(null), click: () => this.#choose(item) },
		});
	}

	#choose(item) {
		this.#move(item);
		this.onChoose(item);
	}

	#move(item) {
		this.frame.querySelector(".current")?.classList.remove("current");
		this.current = item;
		this.frame.querySelector(`#point-${item}`)?.classList.add("current");
		this.frame.firstElementChild.setAttribute("aria-activedescendant", `point-${item}`);
		this.onPoint(item);
	}

	#press(event) {
		if (event.key === "Enter" || event.key === " ") {
			event.preventDefault();
			this.#choose(this.current);
		} else if (DIRECTIONS[event.key]) {
			event.preventDefault();
			const numbers = [...this.frame.querySelectorAll(".point")].map((point) => Number(point.id.slice(6)));
			const found = findNeighbour(numbers.map((item) => this.places[item]), numbers.indexOf(this.current), DIRECTIONS[event.key]);
			if (found !== null) this.#move(numbers[found]);
		}
	}
}
