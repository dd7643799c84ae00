// Builds elements. Texts become text nodes, so that no text of a user, a table or a card can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return the element with an id. */
export const find = (id) => document.getElementById(id);

/** Make an element. `on` holds listeners, `class` and `text` are what they say, and all others are attributes. */
export function make(tag, options = {}, ...children) {
	return fill(document.createElement(tag), options, children);
}

/** Make an element of an SVG picture. */
export function draw(tag, options = {}, ...children) {
	return fill(document.createElementNS(SVG, tag), options, children);
}

function fill(element, { on = {}, text, ...attributes }, children) {
	for (const [name, value] of Object.entries(attributes)) {
		if (value === true) element.setAttribute(name, "");
		else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
	}
	for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
	if (text !== undefined) element.textContent = text;
	element.append(...children.filter((child) => child !== null && child !== undefined));
	return element;
}

/** Show or hide an element. */
export function show(element, isShown) {
	element.hidden = !isShown;
}

/** Set the text of a live region only if it has changed, so that it is not read aloud again. */
export function say(element, text) {
	if (element.textContent !== text) element.textContent = text;
}

/** Make the bar of a share from 0 to 1. Its length is set through the object model, which the policy of the page allows. */
export function makeBar(share, name = "") {
	const bar = make("span", { class: `bar ${name}`.trim(), "aria-hidden": "true" });
	bar.style.setProperty("--share", String(Math.max(0, Math.min(1, share))));
	return bar;
}

/** Return a function that runs once after `milliseconds` without a further call. */
export function debounce(run, milliseconds) {
	let timer;
	return (...values) => {
		clearTimeout(timer);
		timer = setTimeout(() => run(...values), milliseconds);
	};
}

/** Write a number of milliseconds. */
export function formatTime(milliseconds) {
	if (!Number.isFinite(milliseconds)) return "–";
	if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`;
	return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}

/** Write a whole number with separators. */
export const formatCount = (count) => count.toLocaleString("en-US");

/** Write a number and its noun. */
export const count = (number, noun) => `${formatCount(number)} ${noun}${number === 1 ? "" : "s"}`;
