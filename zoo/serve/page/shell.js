// The frame of the page: the theme, the order of its parts, the dialog for the key, and files that are dropped or chosen.

import { find, say } from "./dom.js";

/** Let the button change between light and dark; without it, the page follows the system. */
export function setTheme() {
	const root = document.documentElement;
	const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
	const write = () => (find("theme").textContent = isDark() ? "Light" : "Dark");
	find("theme").addEventListener("click", () => {
		root.dataset.theme = isDark() ? "light" : "dark";
		write();
	});
	matchMedia("(prefers-color-scheme: dark)").addEventListener("change", write);
	write();
}

/** Put the controls of the model below the results on a narrow screen, so that their effect is in sight. */
export function arrange() {
	const narrow = matchMedia("(max-width: 960px)");
	const sections = ["size-section", "why-section", "classes-section", "latents-section"].map(find);
	const place = () => (narrow.matches ? find("search-section").after(...sections) : find("side").prepend(...sections));
	narrow.addEventListener("change", place);
	place();
}

/** Ask for the API key. Return null if the dialog was closed without one. */
export function readKey(wasWrong) {
	const dialog = find("key-dialog");
	say(find("key-note"), wasWrong ? "This key is wrong. Try again." : "This server asks for a key. The page keeps it in memory until it is closed.");
	find("key").value = "";
	dialog.returnValue = "";
	dialog.showModal();
	find("key").focus();
	return new Promise((resolve) => {
		dialog.addEventListener("close", () => {
			const key = find("key").value.trim();
			find("key").value = "";
			resolve(dialog.returnValue === "ok" && key ? key : null);
		}, { once: true });
	});
}

/** Use the files that were chosen with a button. */
export function takeFiles(input, use) {
	use([...input.files]);
	input.value = "";
}

/** Use the files that are dropped on an element. */
export function acceptDrops(element, use) {
	const mark = (isOver) => element.classList.toggle("over", isOver);
	element.addEventListener("dragover", (event) => {
		event.preventDefault();
		mark(true);
	});
	element.addEventListener("dragleave", () => mark(false));
	element.addEventListener("drop", (event) => {
		event.preventDefault();
		mark(false);
		if (event.dataTransfer.files.length) use([...event.dataTransfer.files]);
	});
}
