import { session, UnavailableError } from "/auth/session.js";

const $ = (id) => document.getElementById(id);
const setting = (name) => Number(document.body.dataset[name]) * 1000;

let me = null; // what session.info() says, or null
let events = []; // newest first

session.warnBefore = Math.min(5 * 60 * 1000, setting("refresh") / 4);

// What the session tells, in every tab.

session.addEventListener("update", ({ detail }) => {
	const other = me?.session_id !== detail.session_id;
	me = detail;
	showTimes();
	if (other) {
		show("home");
		tell("");
		$("api-answer").textContent = $("loot").textContent = "";
		loadDevices();
		showEvents();
		close();
	}
	loadRights();
	loadBound();
});

session.addEventListener("warning", ({ detail }) => {
	const left = duration(detail.ends_at - Date.now());
	tell(detail.extendable ? `You will be logged out in ${left} unless you do something.` : `You will be logged out in ${left}.`);
});

session.addEventListener("end", ({ detail }) => {
	const theft = events.some((e) => e.kind === "reused" && e.session_id === me?.session_id);
	me = null;
	close();
	$("step-up").close();
	show("login");
	if (theft) tell("Your session is over: somebody else presented a token of it that had been used up. If that was not you, change your password.", "bad");
	else if (detail.reason === "ended") tell("Your session is over. Log in again.", "bad");
	else if (detail.reason === "logout") tell("You have logged out.");
});

// What the visitor does.

on("login-form", "submit", async (form) => {
	const problem = await logIn(new URLSearchParams(new FormData(form)));
	$("login-problem").textContent = problem;
	if (!problem) form.reset();
	else form.elements.password.focus();
});

for (const button of document.querySelectorAll("[data-password]")) {
	button.addEventListener("click", () => busy(button, async () => {
		$("login-problem").textContent = await logIn(new URLSearchParams({ name: button.dataset.name, password: button.dataset.password }));
	}));
}

async function logIn(body) {
	const response = await session.login(() => fetch("/login", { method: "POST", body }));
	return response.ok ? "" : problemOf(response);
}

on("logout", "click", () => session.logout());

on("refresh", "click", () => session.refresh());

on("api-form", "submit", async (form) => {
	const response = await session.fetch("/api/echo", { method: "POST", body: form.elements.text.value });
	if (response.status === 401) return; // the event says so
	if (!response.ok) return tell(await problemOf(response), "bad");
	const { subject, text, issued_at } = await response.json();
	$("api-answer").textContent = `“${text}”, said ${subject}, with an access token of ${clock(issued_at)}.`;
});

// This change needs a password that is not old. If it is, the server says so, the session asks by the
// event, and this fetch waits for the dialog. If that has worked, the change is sent again.
on("email-form", "submit", async () => {
	const response = await session.fetch("/api/email", { method: "POST" });
	if (response.ok) tell("The e-mail address has been changed. (In the demo there is none.)");
	else if (response.status !== 401) tell(await problemOf(response), "bad");
	else if (me) tell("The e-mail address has not been changed.", "bad"); // without the password
});

session.addEventListener("stepup", ({ detail }) => {
	$("step-up-problem").textContent = "";
	$("step-up-form").reset();
	$("step-up").showModal();
	detail.waitUntil(new Promise((resolve) => $("step-up").addEventListener("close", resolve, { once: true })));
});

on("step-up-form", "submit", async (form) => {
	const response = await session.stepUp("/auth/step-up", { method: "POST", body: new URLSearchParams(new FormData(form)) });
	if (response.ok) return $("step-up").close();
	$("step-up-problem").textContent = await problemOf(response);
	form.elements.password.select();
});

on("step-up-cancel", "click", () => $("step-up").close());

for (const button of document.querySelectorAll("[data-admin]")) {
	button.addEventListener("click", () => busy(button, async () => {
		await act("/demo/admins/" + button.dataset.admin, "POST");
		await loadRights();
	}));
}

for (const button of document.querySelectorAll("[data-act]")) {
	button.addEventListener("click", () => busy(button, async () => {
		await act("/demo/act/" + button.dataset.act, "POST");
		await loadRights();
	}));
}

on("come-back", "click", async () => {
	await fetch("/support/logout", { method: "POST" });
	await loadRights();
	$("rights-title").focus(); // the button is gone
});

on("open", "click", () => stream ? close() : open());

on("say-form", "submit", (form) => {
	if (socket?.readyState === WebSocket.OPEN) socket.send(form.elements.text.value);
	else tell("There is no connection now.", "bad");
});

on("add-phone", "click", () => act("/demo/phone", "POST"));

on("sign-out-others", "click", async () => {
	await session.revokeOthers();
	await loadDevices();
});

async function signOut(device) {
	if ((await session.revoke(device.id)) === false) tell("That device is signed out already.");
	await loadDevices();
}

on("replay", "click", async () => {
	tell("Refreshing, so that the first token is two tokens old …");
	await session.refresh();
	await session.refresh();
	const response = await session.fetch("/demo/replay", { method: "POST" });
	if (response.status === 401) return;
	if (!response.ok) return tell(await problemOf(response), "bad");
	await loadEvents();
	await session.info(); // as any call would, it finds out that the session is over
});

on("steal", "click", async () => {
	const response = await session.fetch("/auth/steal", { method: "POST" });
	if (response.status === 401) return;
	if (!response.ok) return tell(await problemOf(response), "bad");
	const { copied_at, until, refresh } = await response.json();
	$("loot").textContent = `With your cookies of ${clock(copied_at)}, ` + {
		needs_key: (until ? `the thief can do what you can until ${clock(until)}, ` : "the thief can do nothing any more, ") +
			"and gets no new tokens: these need the key of your device. Your session goes on.",
		done: "the thief has got new tokens, as you would, and can go on. The server finds out as both of you go on to refresh.",
		reuse: "the thief was found out: both of you had refreshed. Your session is over.",
	}[refresh];
	await loadEvents();
	await session.info(); // as any call would, it finds out if the session is over
});

// What stays open: the server tells of the user's sessions by one connection, and the devices speak
// to each other by another. Both end with the session, also if the page does nothing.

let stream = null, socket = null;

function open() {
	const here = stream = new EventSource("/api/stream");
	here.addEventListener("open", () => showOpen("stream", "open"));
	here.addEventListener("session", loadDevices);
	here.addEventListener("over", ({ data }) => { here.close(); ended("stream", here, data); });
	here.addEventListener("error", () => { // it tries again by itself, unless it was refused
		if (here.readyState === EventSource.CLOSED) ended("stream", here, "refused");
	});
	const address = new URL("/api/socket", location.href);
	address.protocol = address.protocol.replace("http", "ws");
	const there = socket = new WebSocket(address);
	there.addEventListener("open", () => showOpen("socket", "open"));
	there.addEventListener("message", ({ data }) => { $("said").textContent = data; });
	there.addEventListener("close", ({ reason }) => ended("socket", there, reason || "broken"));
	$("open").textContent = "Close both";
}

function close() {
	stream?.close();
	socket?.close();
	stream = socket = null;
	for (const name of ["stream", "socket"]) showOpen(name, "closed");
	$("open").textContent = "Open both";
}

// ended is told that the server has ended a connection, or that it broke. If the session is over, the
// next call finds out, and the page shows the login at once. Else there are two new connections:
// that call has refreshed, if that was what they needed.
async function ended(name, connection, why) {
	if (connection !== stream && connection !== socket) return; // the page itself has closed it
	showOpen(name, why);
	if (["broken", "refused"].includes(why)) await new Promise((resolve) => setTimeout(resolve, 1000));
	await session.info().catch(() => {});
	if (connection !== stream && connection !== socket) return;
	close();
	open();
}

function showOpen(name, state) {
	$(name + "-state").textContent = state;
}

// act does something about devices, of which the list then tells.
async function act(url, method) {
	const response = await session.fetch(url, { method });
	if (!response.ok && response.status !== 401) tell(await problemOf(response), "bad");
	await loadDevices();
}

// on calls what is to happen with the element, which is disabled meanwhile if it is a button.
function on(id, event, work) {
	const element = $(id);
	element.addEventListener(event, (e) => {
		e.preventDefault();
		busy(element.tagName === "FORM" ? e.submitter : element, () => work(element));
	});
}

async function busy(button, work) {
	if (button?.disabled) return;
	const focused = button === document.activeElement;
	if (button) button.disabled = true;
	try {
		await work();
	} catch (err) {
		const away = err instanceof UnavailableError || err instanceof TypeError;
		tell(away ? "The server does not answer. You are still logged in; try again." : String(err), "bad");
	} finally {
		if (button) button.disabled = false;
		// A button that is disabled loses the focus, and somebody who uses the keyboard loses their
		// place. The same goes for a dialog that has been closed.
		const at = document.activeElement;
		if (focused && (at === document.body || !at?.checkVisibility())) button.focus();
	}
}

async function problemOf(response) {
	const body = await response.json().catch(() => null);
	return body?.problem ?? `The server answered ${response.status}.`;
}

// What the page shows.

function show(view) {
	const changed = $(view).hidden;
	$("login").hidden = view !== "login";
	$("home").hidden = view !== "home";
	$("who").hidden = view !== "home";
	$("subject").textContent = me?.subject ?? "";
	if (changed) (view === "login" ? $("login-form").elements.name : $("time-title")).focus();
}

function tell(text, kind = "") {
	$("notice").hidden = text === "";
	$("notice").className = "notice " + kind;
	$("notice").textContent = text;
}

function showTimes() {
	if (!me) return;
	const now = Date.now();
	showTime("access", me.expires_at - now, setting("access"), "run out; the next call refreshes");
	showTime("idle", me.refresh_expires_at - now, setting("refresh"), "over");
	$("last-left").textContent = me.session_ends_at ? duration(me.session_ends_at - now) : "no end";
}

function showTime(name, left, whole, over) {
	$(name + "-left").textContent = left > 0 ? duration(left) : over;
	$(name + "-bar").value = Math.min(1, Math.max(0, left / whole));
}

async function loadDevices() {
	const devices = await session.devices().catch(() => null);
	if (!devices) return;
	const items = devices.map((device) => {
		const name = device.attributes?.device ?? "Some device";
		const details = [device.attributes?.ip, `since ${clock(device.created_at)}`];
		if (device.last_seen) details.push(`last seen ${clock(device.last_seen)}`);
		const text = element("span", {}, element("strong", {}, name + (device.current ? ", this one" : "")),
			element("small", {}, details.filter(Boolean).join(", ")));
		const button = element("button", { type: "button", ariaLabel: `Sign out ${name}` }, "Sign out");
		button.addEventListener("click", () => busy(button, () => signOut(device)));
		return element("li", {}, text, button);
	});
	const focused = $("devices").contains(document.activeElement);
	$("devices").replaceChildren(...items);
	$("sign-out-others").disabled = items.length < 2;
	if (focused) $("devices-title").closest("section").querySelector("button:not(:disabled)")?.focus();
}

// loadRights shows what the access token says, and that of the session in which the user acts for
// another one. Real pages of the support use the script at /support/session.js for that.
async function loadRights() {
	const response = await session.fetch("/api/me").catch(() => null);
	if (!response?.ok) return;
	const { scope } = await response.json();
	const acting = await fetch("/support/me").catch(() => null);
	const other = acting?.ok ? await acting.json() : null;
	$("acting").hidden = other === null;
	$("rights").textContent = `You may: ${scope}.` + (other ? ` You act as ${other.subject}, who may: ${other.scope}.` : "");
}

// loadBound shows whether the session is bound to this device. The browser sees to that by itself,
// some moments after the login.
async function loadBound() {
	const response = await session.fetch("/demo/bound").catch(() => null);
	if (!response?.ok) return;
	const { bound } = await response.json();
	$("bound").textContent = bound ? "Yes. Whoever copies your cookies gets no new tokens with them." : $("bound").dataset.unbound;
}

async function loadEvents() {
	if (document.hidden) return;
	const response = await fetch("/demo/events?after=" + (events[0]?.number ?? 0)).catch(() => null);
	if (!response?.ok) return;
	const news = (await response.json()).filter((e) => e.number > (events[0]?.number ?? 0)).reverse();
	if (news.length === 0) return;
	events = news.concat(events).slice(0, 200);
	showEvents();
	if (me && news.some((e) => e.subject === me.subject)) loadDevices();
	// Over HTTPS, the browser may have refreshed by itself.
	const refreshed = (e) => e.kind === "refreshed" && e.session_id === me?.session_id;
	if (location.protocol === "https:" && news.some(refreshed)) session.info().catch(() => {});
}

const shown = new Map(); // list items by the event's number

function showEvents() {
	$("log-empty").hidden = events.length > 0;
	for (const e of events.toReversed()) {
		let item = shown.get(e.number);
		if (!item) {
			item = element("li", {}, eventText(e), element("small", {}, `${clock(e.at)} · ${e.device} · session ${e.session_id.slice(0, 6)}`));
			shown.set(e.number, item);
			$("log").prepend(item);
		}
		item.classList.toggle("mine", e.session_id === me?.session_id);
		item.classList.toggle("theft", e.kind === "reused");
	}
	while (shown.size > events.length) {
		$("log").lastChild.remove();
		shown.delete(shown.keys().next().value);
	}
}

const reasons = {
	logout: "logged out", revoked: "signed out", subject_revoked: "signed out with all others", replaced: "replaced by a new login",
	max_sessions: "one login too many", denied: "refused", reuse: "theft",
};

function eventText(e) {
	switch (e.kind) {
	case "started": return `${e.subject} logged in.`;
	case "refreshed": return `${e.subject} refreshed: token ${e.presented} is used up, ${e.presented + 1} is good.`;
	case "replayed": return `${e.subject} refreshed with token ${e.presented} once more, in time: the same answer.`;
	case "reused": return `Theft: somebody presented ${e.subject}'s token ${e.presented} when ${e.live} was good. The session is over.`;
	case "reauthenticated": return `${e.subject} gave the password once more.`;
	case "outdated": return `${e.subject}'s rights have changed. Access tokens of before are refused.`;
	case "refused":
		if (e.unproved) return `${e.subject}'s token came without the key of the device: refused, and the session goes on.`;
		return e.reason ? `${e.subject}'s browser has heard that its session is over.` : `${e.subject}'s session had run out.`;
	case "revoked": return `${e.subject}'s session is over: ${reasons[e.reason] ?? e.reason}.`;
	default: return `${e.subject}: ${e.kind}.`;
	}
}

function element(tag, properties, ...children) {
	const el = Object.assign(document.createElement(tag), properties);
	el.append(...children);
	return el;
}

function clock(time) {
	return new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function duration(milliseconds) {
	const s = Math.max(0, Math.round(milliseconds / 1000));
	const two = (n) => String(n).padStart(2, "0");
	const days = Math.floor(s / 86400);
	const hours = Math.floor((s % 86400) / 3600);
	const minutes = two(Math.floor((s % 3600) / 60)) + ":" + two(s % 60);
	if (days > 0) return `${days} d ${two(hours)}:${minutes}`;
	return hours > 0 ? `${hours}:${minutes}` : minutes;
}

setInterval(showTimes, 1000);
setInterval(loadEvents, 1000);
document.addEventListener("visibilitychange", loadEvents);
loadEvents();
start();

// Before the server has said that nobody is logged in, nobody is asked to log in.
async function start() {
	for (let tries = 1; ; tries++) {
		try {
			const who = await session.info();
			if (who && "changed" in document.body.dataset) await session.refresh(); // to tokens of this page's pace
			if (who) return; // and the event has told
			show("login");
			if (tries > 1) tell("");
			return;
		} catch {
			if (!me) tell("The server cannot be reached. Trying again …", "bad");
			await new Promise((resolve) => setTimeout(resolve, 2000));
		}
	}
}
