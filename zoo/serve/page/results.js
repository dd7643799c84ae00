// The list of results: texts, scores, and how many places each has moved.

import { find, make, makeBar } from "./dom.js";

/** Say how many places a result has moved up against the full model. */
function describeMove(move) {
	if (move === null) return null;
	const text = move === 0 ? "=" : move > 0 ? `▲ ${move}` : `▼ ${-move}`;
	const words = move === 0 ? "same place" : `${Math.abs(move)} ${move > 0 ? "up" : "down"}`;
	return make("span", { class: `move ${move > 0 ? "up" : move < 0 ? "down" : ""}`, title: `${words} against the full model` },
		make("span", { "aria-hidden": "true", text }), make("span", { class: "hidden", text: `, ${words} against the full model` }));
}

/** Show hits as {text, score, move, image, notes, item}. `choose` is called with a hit; `chosen` is the item that is chosen. */
export function renderHits(hits, chosen, choose) {
	const had = [...find("hits").querySelectorAll(".hit-button")].indexOf(document.activeElement);
	const largest = Math.max(1e-9, ...hits.map(({ score: value }) => value));
	find("hits").replaceChildren(...hits.map((hit, place) => make("li", { class: "hit-row" },
		make("button", { type: "button", class: "hit-button", "aria-pressed": String(hit.item !== undefined && hit.item === chosen), on: {
			click: () => choose(hit), keydown: (event) => moveFocus(event, place),
		} },
		hit.image ? make("img", { src: hit.image, alt: "" }) : null,
		make("span", { class: "hit-text", text: hit.text }),
		hit.notes ? make("span", { class: "hit-notes", text: hit.notes }) : null,
		make("span", { class: "hit-score" }, makeBar(hit.score / largest), make("span", { class: "value", text: hit.score.toFixed(3) }), describeMove(hit.move))))));
	if (had >= 0) find("hits").querySelectorAll(".hit-button")[Math.min(had, hits.length - 1)]?.focus();
}

/** Go to the next or the previous result, or from the first one to the search box. */
function moveFocus(event, place) {
	const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
	if (!step) return;
	event.preventDefault();
	const buttons = find("hits").querySelectorAll(".hit-button");
	(place + step < 0 ? find("query") : buttons[Math.min(place + step, buttons.length - 1)]).focus();
}
