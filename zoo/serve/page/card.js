// Shows the card. The server gives HTML that it has made safe; here only known elements and attributes are copied from it.

import { make } from "./dom.js";

const TAGS = new Set(("a b blockquote br code details del em h1 h2 h3 h4 h5 h6 hr i img kbd li ol p pre s strong sub summary sup " +
	"table tbody td th thead tr ul").split(" "));
const DROPPED = new Set(["script", "style", "template", "iframe", "object", "embed", "svg", "math", "noscript", "title"]);

/** Return the attributes of an element that may stay. */
function readAttributes(tag, node) {
	if (tag === "a" && /^https?:\/\//i.test(node.getAttribute("href") ?? "")) {
		return { href: node.getAttribute("href"), target: "_blank", rel: "noopener noreferrer" };
	}
	if (tag === "img" && /^data:image\/png;base64,/.test(node.getAttribute("src") ?? "")) {
		return { src: node.getAttribute("src"), alt: node.getAttribute("alt") ?? "" };
	}
	const align = ["right", "center"].find((name) => node.className === name);
	return { ...(tag === "th" && { scope: "col" }), ...(align && { class: align }) };
}

/** Return safe copies of a list of nodes. An unknown element is replaced by its content. */
function copy(nodes) {
	return [...nodes].flatMap((node) => {
		if (node.nodeType === Node.TEXT_NODE) return [document.createTextNode(node.data)];
		if (node.nodeType !== Node.ELEMENT_NODE) return [];
		const tag = node.localName;
		if (DROPPED.has(tag)) return [];
		const children = copy(node.childNodes);
		if (!TAGS.has(tag)) return children;
		const own = make(tag, readAttributes(tag, node), ...children);
		// A wide table scrolls by itself, also with the keyboard.
		return [tag === "table" ? make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table" }, own) : own];
	});
}

/** Show HTML in an element. A parsed document runs no scripts and loads nothing before its nodes are copied. */
export function showCard(element, html) {
	element.replaceChildren(...copy(new DOMParser().parseFromString(html, "text/html").body.childNodes));
}
