// Tests of the script alone, with a server that is a function. Chromium has the rest: locks, cookies, pages that go away.
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, mock, test } from "node:test";

// Channels and timers that are left would keep the process from ending.
const channels = [];
const Channel = BroadcastChannel;
globalThis.BroadcastChannel = class extends Channel {
	constructor(name) {
		super(name);
		channels.push(this);
	}
};
const timeout = setTimeout;
globalThis.setTimeout = (...args) => {
	const timer = timeout(...args);
	return args[1] > 20_000 ? timer.unref() : timer;
};

const folder = mkdtempSync(join(tmpdir(), "tokensession-"));
copyFileSync(new URL("../../sessionhttp/session.js", import.meta.url), join(folder, "session.mjs"));
const script = await import(join(folder, "session.mjs"));
const { CookiesError, Session, SessionChangedError, UnavailableError } = script;
rmSync(folder, { recursive: true });

const origin = "http://localhost:1";
let number = 0; // of the test: each has its own lock and channel
let server; // by path: what answers
let sent; // the requests: "POST /auth/token"
let kept; // the requests themselves: Node.js aborts no signal of one that was garbage-collected

beforeEach(() => {
	number++;
	sent = [];
	kept = [];
	server = {};
	globalThis.fetch = async (input, init) => {
		const request = new Request(input, init);
		kept.push(request);
		const path = new URL(request.url).pathname.replace(`/${number}/`, "/auth/");
		if (/^\/\d+\//.test(path)) return new Promise(() => {}); // of a test that is over
		sent.push(`${request.method} ${path}`);
		if (request.signal.aborted) throw request.signal.reason;
		return server[path](request);
	};
});
afterEach(() => {
	mock.timers.reset();
	for (const channel of channels.splice(1)) channel.close(); // but for the one of the module's own session
});
after(() => channels[0].close());

const json = (status, body, headers) => new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json", ...headers } });
const alive = (more) => json(200, { subject: "alice", session_id: "s1", expires_in: 900, refresh_expires_in: 604800, ...more });
const over = () => json(400, { error: "invalid_grant" });
const busy = (seconds) => json(503, { error: "temporarily_unavailable" }, seconds && { "Retry-After": `${seconds}` });
const refused = () => json(401, { error: "invalid_token" });
const count = (what) => sent.filter((s) => s === what).length;

// open is a tab. It notes the events in events, the updates' subjects in subjects, and what other tabs tell it in told.
function open() {
	const tab = new Session(`${origin}/${number}/session.js`);
	tab.events = [];
	for (const type of ["update", "warning", "end"]) {
		tab.addEventListener(type, (e) => tab.events.push(type === "end" ? `end ${e.detail.reason}` : type));
	}
	tab.subjects = [];
	tab.addEventListener("update", (e) => tab.subjects.push(e.detail.subject));
	tab.told = [];
	if (globalThis.BroadcastChannel) channels.at(-1).addEventListener("message", (e) => tab.told.push(e.data.kind));
	return tab;
}

// withLocks is how a browser has them. FrozenLocks are another tab's.
function withLocks(locks, make) {
	const saved = Object.getOwnPropertyDescriptor(globalThis, "navigator");
	Object.defineProperty(globalThis, "navigator", { configurable: true, value: { locks } });
	try {
		return make();
	} finally {
		if (saved) Object.defineProperty(globalThis, "navigator", saved);
		else delete globalThis.navigator;
	}
}
class FrozenLocks {
	request(_name, { signal }) {
		return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
	}
}

// expired has the API refuse until there has been a refresh.
function expired() {
	let fresh = false;
	server["/api"] = async (request) => (fresh ? new Response(await request.text()) : refused());
	server["/auth/token"] = () => {
		fresh = true;
		return alive();
	};
}

// settle lets what needs no time happen. pass lets time pass, in small steps so that what waits in turn gets its turn.
const settle = () => new Promise((resolve) => setImmediate(resolve));
async function pass(milliseconds, step = milliseconds < 20_000 ? 50 : 1000) {
	for (let done = 0; done < milliseconds; done += step) {
		mock.timers.tick(step);
		await settle();
	}
}
// heard waits until a tab has been told something by another.
async function heard(tab, event) {
	for (let i = 0; i < 1000 && tab.events.at(-1) !== event; i++) await new Promise((resolve) => timeout(resolve, 10));
	assert.equal(tab.events.at(-1), event);
}
// told waits until a tab has been told of what raises no event.
async function told(tab, kind) {
	for (let i = 0; i < 1000 && !tab.told.includes(kind); i++) await new Promise((resolve) => timeout(resolve, 10));
	assert.ok(tab.told.includes(kind));
}
const useFakeTime = () => mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_700_000_000_000 });

test("a 401 refreshes, and the request goes again with its body", async () => {
	expired();
	const response = await open().fetch(`${origin}/api`, { method: "POST", body: "hello" });
	assert.equal(await response.text(), "hello");
	assert.deepEqual(sent, ["POST /api", "POST /auth/token", "POST /api"]);
});

test("a Request can be sent again, too", async () => {
	expired();
	const response = await open().fetch(new Request(`${origin}/api`, { method: "POST", body: "hello" }));
	assert.equal(await response.text(), "hello");
});

test("the refresh has no body, which is how it asks for cookies", async () => {
	expired();
	const refresh = server["/auth/token"];
	server["/auth/token"] = async (request) => {
		assert.equal(await request.text(), "");
		assert.equal(new URL(request.url).search, "");
		assert.equal(request.keepalive, false, "Chromium would not cancel it");
		assert.equal(request.redirect, "error");
		return refresh();
	};
	assert.equal((await open().fetch(`${origin}/api`)).status, 200);
});

test("a stream is not sent again, but the next request works", async () => {
	expired();
	const tab = open();
	const body = new Blob(["hello"]).stream();
	assert.equal((await tab.fetch(`${origin}/api`, { method: "POST", body, duplex: "half" })).status, 401);
	assert.equal((await tab.fetch(`${origin}/api`)).status, 200);
	assert.equal(count("POST /auth/token"), 1);
	assert.deepEqual(tab.events, ["update"]);
});

test("many requests at once refresh once", async () => {
	expired();
	const tab = open();
	const responses = await Promise.all(Array.from({ length: 18 }, () => tab.fetch(`${origin}/api`)));
	assert.ok(responses.every((r) => r.status === 200));
	assert.equal(count("POST /auth/token"), 1);
});

test("a late 401 of before a refresh does not refresh again", async () => {
	expired();
	const tab = open();
	const api = server["/api"];
	let answerLate;
	server["/late"] = (request) => new Promise((resolve) => (answerLate = async () => {
		server["/late"] = api;
		resolve(refused());
	}));
	const late = tab.fetch(`${origin}/late`);
	assert.equal((await tab.fetch(`${origin}/api`)).status, 200);
	await answerLate();
	assert.equal((await late).status, 200);
	assert.equal(count("POST /auth/token"), 1);
});

test("a route that always refuses is asked twice, and nobody is logged out", async () => {
	expired();
	server["/api"] = refused;
	const tab = open();
	assert.equal((await tab.fetch(`${origin}/api`)).status, 401);
	assert.deepEqual(sent, ["GET /api", "POST /auth/token", "GET /api"]);
	assert.deepEqual(tab.events, ["update"]);
});

test("a request goes again twice if the token of another tab's refresh is no good any more", async () => {
	let refreshes = 0;
	server["/auth/token"] = () => {
		refreshes++;
		return alive();
	};
	for (const good of [2, Infinity]) { // the refresh after which the API answers
		number++;
		refreshes = 0;
		const [tab, other] = [open(), open()];
		let answer;
		server["/api"] = () => new Promise((resolve) => (answer = () => resolve(refused())));
		sent = [];
		const response = tab.fetch(`${origin}/api`);
		await settle();
		await other.refresh();
		await told(tab, "refreshed");
		server["/api"] = () => (refreshes >= good ? json(200, {}) : refused());
		answer();
		assert.equal((await response).status, good === 2 ? 200 : 401);
		assert.deepEqual(sent, ["GET /api", "POST /auth/token", "GET /api", "POST /auth/token", "GET /api"]);
	}
});

test("other origins are left alone", async () => {
	server["/api"] = refused;
	assert.equal((await open().fetch("http://localhost:2/api")).status, 401);
	assert.deepEqual(sent, ["GET /api"]);
});

test("other statuses are left alone", async () => {
	for (const status of [200, 400, 403, 500, 503]) {
		server["/api"] = () => json(status, {});
		assert.equal((await open().fetch(`${origin}/api`)).status, status);
	}
	assert.equal(count("POST /auth/token"), 0);
});

test("the verdict ends the session, once, in every tab", async () => {
	server["/auth/session"] = () => alive();
	const [tab, other] = [open(), open()];
	await tab.info();
	await other.info();
	server["/api"] = refused;
	server["/auth/token"] = over;
	await Promise.all([1, 2, 3].map(() => tab.fetch(`${origin}/api`)));
	assert.equal((await other.fetch(`${origin}/api`)).status, 401);
	server["/auth/session"] = refused;
	assert.equal(await tab.info(), null);
	assert.equal(tab.events.filter((e) => e.startsWith("end")).join(), "end ended");
	assert.equal(other.events.filter((e) => e.startsWith("end")).join(), "end ended");
});

test("a verdict about a session that a login has replaced is not the new one's", async () => {
	server["/auth/session"] = () => alive();
	const tab = open();
	await tab.info();
	const answers = [over, () => alive({ session_id: "s2" })]; // the second request brings the login's cookie
	server["/auth/token"] = () => answers.shift()();
	assert.equal((await tab.refresh()).session_id, "s2");
	assert.deepEqual(tab.events, ["update", "update"]);
});

test("a verdict that cannot be had twice is none", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive();
	const tab = open();
	await tab.info();
	let asked = 0;
	server["/auth/token"] = () => (++asked === 1 ? over() : busy(60));
	const rejected = assert.rejects(tab.refresh(), UnavailableError);
	await pass(100);
	await rejected;
	assert.deepEqual(tab.events, ["update"]);
	assert.equal(asked, 2);
});

test("a logout takes the first answer", async () => {
	server["/auth/logout"] = over;
	await open().logout();
	assert.deepEqual(sent, ["POST /auth/logout"]);
});

test("a page that only asks whether somebody is logged in gets an answer, and no end", async () => {
	server["/auth/session"] = refused;
	server["/auth/token"] = over;
	const [tab, other] = [open(), open()];
	assert.equal(await tab.info(), null);
	assert.equal(await tab.refresh(), null);
	await told(other, "ended");
	assert.equal(await other.info(), null);
	assert.deepEqual([tab.events, other.events], [[], []]);
});

test("an anonymous visitor costs one request", async () => {
	server["/auth/session"] = () => json(200, null);
	const tab = open();
	assert.equal(await tab.info(), null);
	assert.deepEqual(sent, ["GET /auth/session"]);
	assert.deepEqual(tab.events, []);
	assert.equal(await tab.info(), null);
});

test("that no cookie has come is no verdict about a login that the page knows of", async () => {
	server["/auth/session"] = () => alive();
	const tab = open();
	await tab.info();
	server["/auth/session"] = () => json(200, null);
	server["/auth/token"] = () => json(503, { error: "temporarily_unavailable" }, { "Retry-After": "60" });
	await assert.rejects(tab.info(), UnavailableError);
	assert.deepEqual(tab.events, ["update"]);
	server["/auth/token"] = over;
	assert.equal(await tab.info(), null);
	assert.deepEqual(tab.events, ["update", "end ended"]);
	assert.equal(await tab.info(), null);
	assert.deepEqual(tab.events, ["update", "end ended"]);
});

test("that nobody is logged in is no news of after another tab's login", async () => {
	const [tab, other] = [open(), open()];
	let answer;
	server["/auth/session"] = () => new Promise((resolve) => (answer = () => resolve(json(200, null))));
	const asked = tab.info();
	await settle();
	server["/auth/session"] = () => alive();
	await other.login(async () => json(200, {}));
	await told(tab, "seen");
	answer();
	assert.equal((await asked).subject, "alice");
	assert.deepEqual([...new Set(tab.events)], ["update"]);
});

test("a login of two steps ends nothing", async () => {
	server["/auth/session"] = refused;
	server["/auth/token"] = over;
	const tab = open();
	assert.equal(await tab.info(), null);
	assert.equal((await tab.login(async () => json(200, { next: "code" }))).status, 200);
	assert.deepEqual(tab.events, []);
	server["/auth/session"] = () => alive();
	await tab.login(async () => json(200, {}));
	assert.deepEqual(tab.events, ["update"]);
});

test("a page that has only used its login knows that it ends", async () => {
	server["/api"] = () => json(200, {}, { "Tokensession-Session": "s1" });
	const tab = open();
	await tab.fetch(`${origin}/api`);
	server["/api"] = refused;
	server["/auth/token"] = over;
	assert.equal((await tab.fetch(`${origin}/api`)).status, 401);
	assert.deepEqual(tab.events, ["end ended"]);
});

test("a logout elsewhere is told to a page that has never asked, and not to one where nobody was logged in", async () => {
	server["/auth/session"] = () => json(200, null);
	server["/auth/logout"] = () => json(200, {});
	const [tab, unknown, nobody] = [open(), open(), open()];
	await nobody.info();
	await tab.logout();
	await heard(unknown, "end logout");
	await told(nobody, "ended");
	assert.deepEqual(nobody.events, []);
	await tab.logout();
	assert.deepEqual(tab.events, ["end logout"]);
});

// cached opens a page as it comes out of the back-forward cache.
function cached(prepare = async () => {}) {
	const shown = [];
	globalThis.addEventListener = (type, listener) => type === "pageshow" && shown.push(listener);
	const tab = open();
	delete globalThis.addEventListener;
	return prepare(tab).then(() => (shown[0]({ persisted: true }), tab));
}

test("a page that comes back asks, unless it knows that nobody is logged in", async () => {
	server["/auth/session"] = () => json(200, null);
	server["/auth/token"] = over;
	await heard(await cached(), "end ended");
	server["/auth/session"] = () => alive();
	await heard(await cached(), "update");
	const known = await cached(async (tab) => {
		await tab.info();
		server["/auth/session"] = refused;
	});
	await heard(known, "end ended");
	assert.deepEqual(known.events, ["update", "end ended"]);
	sent = [];
	await cached(async (tab) => assert.equal(await tab.info(), null));
	assert.equal(count("GET /auth/session"), 1);
});

test("a page that comes back in an outage asks until there is an answer", async () => {
	useFakeTime();
	server["/auth/session"] = () => { throw new TypeError("Failed to fetch"); };
	const tab = await cached();
	await pass(20_000);
	assert.deepEqual(tab.events, []);
	server["/auth/session"] = () => json(200, null);
	server["/auth/token"] = over;
	await pass(40_000);
	assert.deepEqual(tab.events, ["end ended"]);
});

test("nothing but the verdict ends the session", async () => {
	const portal = () => new Response("<h1>Pay for the network</h1>", { headers: { "Content-Type": "text/html" } });
	for (const [name, answer, tries] of [
		["500", () => json(500, { error: "server_error" }), "more"],
		["502 of a proxy", () => new Response("Bad Gateway", { status: 502 }), "more"],
		["503", () => busy(1), "more"],
		["503 for a long time", () => busy(60), 1],
		["503 of a proxy", () => new Response("Service Unavailable", { status: 503 }), "more"],
		["503 of a proxy for a long time", () => new Response("", { status: 503, headers: { "Retry-After": "60" } }), 2],
		["503 that says invalid_grant", () => json(503, { error: "invalid_grant" }), "more"],
		["429", () => json(429, {}), "more"],
		["no network", () => { throw new TypeError("Failed to fetch"); }, "more"],
		["a network that wants to be paid", portal, "more"],
		["200 with nothing in it", () => json(200, {}), "more"],
		["200 with null in it", () => json(200, null), "more"],
		["two cookies of one name", () => json(400, { error: "invalid_request" }), 1],
		["400 of a proxy", () => new Response("Bad Request", { status: 400 }), 1],
		["401", () => json(401, { error: "invalid_client" }), 1],
		["403", () => json(403, { error: "access_denied" }), 1],
		["404", () => new Response("", { status: 404 }), 1],
	]) {
		number++;
		sent = [];
		useFakeTime();
		server["/auth/session"] = () => alive();
		const tab = open();
		await tab.info();
		server["/api"] = refused;
		server["/auth/token"] = answer;
		const rejected = assert.rejects(tab.fetch(`${origin}/api`), UnavailableError, name);
		await pass(15_000);
		await rejected;
		const n = count("POST /auth/token");
		assert.ok(tries === "more" ? n >= 3 && n < 10 : n === tries, `${name}: ${n} attempts`);
		assert.deepEqual(tab.events, ["update"], name);

		expired(); // and it still works
		const works = tab.fetch(`${origin}/api`);
		await pass(500);
		assert.equal((await works).status, 200, name);
		mock.timers.reset();
	}
});

test("a refresh that works at the third attempt is as good as any", async () => {
	useFakeTime();
	expired();
	const refresh = server["/auth/token"];
	const answers = [() => busy(1), () => { throw new TypeError("Failed to fetch"); }, refresh];
	server["/auth/token"] = () => answers.shift()();
	const tab = open();
	const response = tab.fetch(`${origin}/api`);
	await pass(5000);
	assert.equal((await response).status, 200);
	assert.equal(count("POST /auth/token"), 3);
});

test("Retry-After is waited for", async () => {
	useFakeTime();
	server["/api"] = refused;
	server["/auth/token"] = () => busy(5);
	const rejected = assert.rejects(open().fetch(`${origin}/api`), UnavailableError);
	await pass(4900);
	assert.equal(count("POST /auth/token"), 1);
	await pass(200);
	assert.equal(count("POST /auth/token"), 2);
	await pass(5000);
	await rejected;
	assert.equal(count("POST /auth/token"), 2, "the next one would be later than the grace period");
});

test("Retry-After may be a date, and what makes no sense is left out", async () => {
	const now = 1_700_000_000_000;
	for (const [value, pause, told] of [
		[new Date(now + 5000).toUTCString(), 5000, 0],
		[new Date(now + 60_000).toUTCString(), Infinity, 60_000], // longer than there is time
		[new Date(now - 60_000).toUTCString(), 0, 0],
		["-5", 0, 0],
		["soon", 0, 0],
	]) {
		number++;
		useFakeTime();
		server["/api"] = refused;
		const at = [];
		server["/auth/token"] = () => {
			at.push(Date.now());
			return json(503, { error: "temporarily_unavailable" }, { "Retry-After": value });
		};
		const rejected = open().fetch(`${origin}/api`).catch((err) => err);
		await pass(15_000);
		const { retryAfter } = await rejected;
		assert.ok(retryAfter <= told && retryAfter > told - 1000 && retryAfter >= 0, `${value}: ${retryAfter}`);
		assert.ok(at.length > 1 ? at[1] - now >= pause && at[1] - now < pause + 600 : pause === Infinity, `${value}: ${at}`);
		mock.timers.reset();
	}
});

test("an answer that comes after the next attempt was sent still counts", async () => {
	useFakeTime();
	server["/api"] = () => (answered ? json(200, {}) : refused());
	let answered = false;
	let first;
	server["/auth/token"] = () => new Promise((resolve) => (first ??= () => {
		answered = true;
		resolve(alive());
	}));
	const response = open().fetch(`${origin}/api`);
	await pass(5000);
	assert.equal(count("POST /auth/token"), 2);
	first();
	await pass(100);
	assert.equal((await response).status, 200);
});

test("a refusal is noticed while an earlier attempt hangs", async () => {
	useFakeTime();
	expired();
	const answers = [() => new Promise(() => {}), () => busy(1), server["/auth/token"]];
	server["/auth/token"] = () => answers.shift()();
	let status;
	open().fetch(`${origin}/api`).then((response) => (status = response.status));
	await pass(6000); // 4 s of silence, and pauses of less than 0.4 s and of 1 s
	assert.equal(status, 200);
});

test("an attempt in doubt is made again in time, whatever Retry-After asks for", async () => {
	for (const [name, first] of [
		["no answer", () => { throw new TypeError("Failed to fetch"); }],
		["500", () => json(500, {})],
		["503 of a proxy", () => new Response("Service Unavailable", { status: 503 })],
	]) {
		number++;
		sent = [];
		useFakeTime();
		expired();
		const answers = [first, () => busy(30), server["/auth/token"]];
		server["/auth/token"] = () => answers.shift()();
		const response = open().fetch(`${origin}/api`);
		await pass(7500);
		assert.equal(count("POST /auth/token"), 2, name);
		await pass(1000);
		assert.equal((await response).status, 200, name);
		mock.timers.reset();
	}
});

test("a 503 that is not the server's own may hide that the refresh was applied", async () => {
	const after30 = { "Retry-After": "30" };
	for (const [name, first] of [
		["a page", () => new Response("<h1>temporarily_unavailable</h1>", { status: 503, headers: after30 })],
		["other JSON", () => json(503, { error: "upstream reset" }, after30)],
		["null", () => json(503, null, after30)],
		["502 with our words", () => json(502, { error: "temporarily_unavailable" }, after30)],
	]) {
		number++;
		sent = [];
		useFakeTime();
		expired();
		const refresh = server["/auth/token"];
		const applied = Date.now();
		const answers = [first, () => (Date.now() < applied + 10_000 ? refresh() : over())];
		server["/auth/token"] = () => answers.shift()();
		let status;
		open().fetch(`${origin}/api`).then((response) => (status = response.status), (err) => (status = err.name));
		await pass(10_000);
		assert.equal(status, 200, name);
		mock.timers.reset();
	}
});

test("a late answer is not waited for until the next attempt", async () => {
	useFakeTime();
	let answered = false;
	let first;
	server["/api"] = () => (answered ? json(200, {}) : refused());
	server["/auth/token"] = () => {
		if (first) return busy(30);
		return new Promise((resolve) => (first = () => {
			answered = true;
			resolve(alive());
		}));
	};
	let status;
	open().fetch(`${origin}/api`).then((response) => (status = response.status));
	await pass(5000);
	first();
	await pass(100);
	assert.equal(status, 200);
	assert.equal(count("POST /auth/token"), 2);
});

test("an access token that has run out is refreshed before the request", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive({ expires_in: 60 });
	server["/api"] = () => json(200, {});
	server["/auth/token"] = () => alive({ expires_in: 60 });
	const tab = open();
	await tab.info();
	await tab.fetch(`${origin}/api`);
	assert.equal(count("POST /auth/token"), 0);
	await pass(59_000);
	const responses = Promise.all([tab.fetch(`${origin}/api`), tab.fetch(`${origin}/api`)]);
	await pass(100);
	assert.ok((await responses).every((r) => r.status === 200));
	assert.equal(count("POST /auth/token"), 1);
	assert.equal(sent.indexOf("POST /auth/token"), 2);
});

test("before it has run out, a request goes though no refresh does", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive({ expires_in: 60 });
	server["/api"] = () => json(200, {});
	server["/auth/token"] = () => busy(60);
	const tab = open();
	await tab.info();
	await pass(59_000);
	const response = tab.fetch(`${origin}/api`);
	await pass(100);
	assert.equal((await response).status, 200);
	await pass(2000);
	const rejected = assert.rejects(tab.fetch(`${origin}/api`), UnavailableError);
	await pass(100);
	await rejected;
});

test("tabs without locks hear of each other's refreshes", async () => {
	expired();
	server["/auth/session"] = () => alive();
	const [tab, other] = [open(), open()];
	await tab.info();
	await tab.fetch(`${origin}/api`);
	await heard(other, "update");
});

test("without a BroadcastChannel it works, too", async () => {
	const Saved = globalThis.BroadcastChannel;
	delete globalThis.BroadcastChannel;
	try {
		expired();
		assert.equal((await open().fetch(`${origin}/api`)).status, 200);
	} finally {
		globalThis.BroadcastChannel = Saved;
	}
});

test("where storage is denied, and the channel with it, it can be imported and works in this tab", async () => {
	const Saved = globalThis.BroadcastChannel;
	globalThis.BroadcastChannel = class { constructor() { throw new DOMException("The operation is insecure.", "SecurityError"); } };
	const again = mkdtempSync(join(tmpdir(), "tokensession-"));
	copyFileSync(new URL("../../sessionhttp/session.js", import.meta.url), join(again, "session.mjs"));
	try {
		expired();
		const { Session } = await import(join(again, "session.mjs"));
		const tab = new Session(`${origin}/${number}/session.js`);
		assert.equal((await tab.fetch(`${origin}/api`)).status, 200);
	} finally {
		globalThis.BroadcastChannel = Saved;
		rmSync(again, { recursive: true });
	}
});

test("where the lock is denied, calls of this tab take turns", async () => {
	const denied = async () => { throw new DOMException("The operation is insecure.", "SecurityError"); };
	const tab = withLocks({ request: denied }, open);
	let running = 0;
	server["/auth/token"] = server["/auth/logout"] = async () => {
		assert.equal(++running, 1);
		await settle();
		running--;
		return alive();
	};
	await Promise.all([tab.refresh(), tab.refresh(), tab.logout()]);
	assert.deepEqual(sent, ["POST /auth/token", "POST /auth/token", "POST /auth/logout"]);
});

test("a tab that keeps the lock, frozen, stops the others for 45 seconds only", async () => {
	useFakeTime();
	expired();
	const tab = withLocks(new FrozenLocks(), open);
	let status;
	tab.fetch(`${origin}/api`).then((response) => (status = response.status), (err) => (status = err.name));
	await pass(44_000);
	assert.equal(status, undefined);
	assert.equal(count("POST /auth/token"), 0);
	await pass(2000);
	assert.equal(status, 200);
	assert.equal(count("POST /auth/token"), 1);
});

test("work that has the lock is not begun again, however long it takes", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive();
	let answer, begun = 0;
	const tab = withLocks({ request: async (_name, _options, work) => work() }, open);
	const login = tab.login(() => new Promise((resolve) => (answer = () => resolve(json(200, {})), begun++)));
	await pass(100_000);
	answer();
	assert.equal((await login).status, 200);
	assert.equal(begun, 1);
});

test("what the work rejects with is told, and it is not done again without the lock", async () => {
	let begun = 0;
	const fails = () => {
		begun++;
		throw new Error("no such form");
	};
	await assert.rejects(open().login(fails), /no such form/);
	assert.equal(begun, 1);
});

test("a logout is told in every tab, and tried again where the network fails", async () => {
	server["/auth/session"] = () => alive();
	let attempts = 0;
	server["/auth/logout"] = () => (++attempts === 1 ? json(503, {}) : json(200, {}));
	const [tab, other] = [open(), open()];
	await tab.info();
	await other.info();
	await tab.logout();
	assert.equal(attempts, 2);
	await heard(tab, "end logout");
	await heard(other, "end logout");
});

test("a logout that did not come to anything is no logout", async () => {
	server["/auth/session"] = () => alive();
	server["/auth/logout"] = () => json(403, {});
	const tab = open();
	await tab.info();
	await assert.rejects(tab.logout(), UnavailableError);
	assert.deepEqual(tab.events, ["update"]);
});

test("an answer of before the logout does not log in again", async () => {
	const tab = open();
	let answer;
	server["/auth/session"] = () => new Promise((resolve) => (answer = () => resolve(alive())));
	server["/auth/logout"] = () => json(200, {});
	const asked = tab.info();
	await settle();
	await tab.logout();
	answer();
	assert.equal(await asked, null);
	assert.deepEqual(tab.events, ["end logout"]);
});

test("a login waits for a refresh, so that the old session's end is not the new one's", async () => {
	const order = [];
	let answer;
	server["/auth/token"] = () => new Promise((resolve) => (answer = () => {
		server["/auth/token"] = over;
		order.push("old session is over");
		resolve(over());
	}));
	server["/auth/session"] = () => alive({ session_id: "s2" });
	const tab = open();
	const refreshed = tab.refresh();
	const loggedIn = tab.login(async () => {
		order.push("login");
		return json(200, {});
	});
	await settle();
	answer();
	await Promise.all([refreshed, loggedIn]);
	assert.deepEqual(order, ["old session is over", "login"]);
	assert.deepEqual(tab.events, ["update"]);
});

// hang has the requests to a path wait for an answer, for ever unless the test gives one, and returns them.
function hang(path) {
	const requests = [];
	server[path] = ({ signal }) => new Promise((resolve, reject) => {
		const request = { state: "pending" };
		const ends = (state, end) => (value) => {
			if (request.state === "pending") request.state = state;
			end(value);
		};
		request.answer = ends("answered", resolve);
		signal.addEventListener("abort", ends("cancelled", () => reject(signal.reason)));
		requests.push(request);
	});
	return requests;
}
const states = (requests) => [...new Set(requests.map((r) => r.state))].join(" and ");

// giveUp has a tab give up a refresh, and returns its requests.
async function giveUp(tab) {
	const requests = hang("/auth/token");
	const rejected = assert.rejects(tab.refresh(), UnavailableError);
	await pass(13_000);
	await rejected;
	assert.ok(requests.length >= 2);
	assert.equal(states(requests), "pending", "each may be the one that was applied");
	return requests;
}

// inParts is an answer whose headers come first. Its body may come later, or break off.
function inParts(response) {
	const { readable, writable } = new TransformStream();
	const writer = writable.getWriter();
	return {
		headers: new Response(readable, response),
		body: async () => {
			writer.write(new Uint8Array(await response.arrayBuffer()));
			await writer.close();
		},
		breakOff: () => writer.abort(new TypeError("terminated")),
	};
}

// tell is what another tab does, and returns when a tab has heard it.
async function tell(tab, message) {
	tab.told = [];
	new BroadcastChannel(`tokensession /${number}/`).postMessage(message);
	await told(tab, message.kind);
}

test("a late answer to a refresh that was given up is news in every tab, and the other requests are cancelled", async () => {
	useFakeTime();
	const [tab, other] = [open(), open()];
	const [first, late, ...more] = await giveUp(tab);
	await pass(10_000);
	late.answer(alive());
	await pass(100);
	assert.deepEqual(tab.events, ["update"]);
	assert.equal(states([first, ...more]), "cancelled", "they would be theft, if they came later still");
	await heard(other, "update");

	const requests = hang("/auth/token");
	tab.refresh().catch(() => {});
	await pass(6000);
	assert.equal(states(requests), "pending", "these have the new cookie");
});

test("what is left of an answer of before a login is no news of the new session", async () => {
	useFakeTime();
	const tab = open();
	const [request] = await giveUp(tab);
	const answer = inParts(alive());
	request.answer(answer.headers);
	await pass(100);
	server["/auth/session"] = () => alive({ session_id: "s2", subject: "bob" });
	const login = tab.login(async () => json(200, {}));
	await pass(100);
	await login;
	answer.body().catch(() => {});
	await pass(5000);
	assert.deepEqual(tab.subjects, ["bob"]);
	assert.deepEqual(tab.events, ["update"]);
});

test("an answer cancels the attempts that began before it, and so does the verdict", async () => {
	for (const [answer, events] of [[alive, ["update"]], [over, []]]) {
		number++;
		sent = [];
		useFakeTime();
		const requests = hang("/auth/token");
		const tab = open();
		tab.refresh();
		await pass(5000);
		assert.equal(requests.length, 2);
		await pass(2000);
		server["/auth/token"] = over;
		requests[1].answer(answer());
		await pass(100);
		assert.equal(requests[0].state, "cancelled");
		assert.deepEqual(tab.events, events);
		mock.timers.reset();
	}
});

test("what a refresh that was given up has left is cancelled when another tab begins one", async () => {
	useFakeTime();
	const [tab, other] = [open(), open()];
	const left = await giveUp(tab);
	const requests = hang("/auth/token");
	const refreshed = other.refresh();
	await told(tab, "begun");
	assert.equal(states(left), "cancelled");
	assert.equal(states(requests), "pending");
	await tell(other, { kind: "begun" });
	assert.equal(states(requests), "pending", "tabs without locks may refresh at the same time");
	requests[0].answer(alive());
	await pass(100);
	assert.equal((await refreshed).subject, "alice");
});

test("what a refresh that was given up has left is cancelled when this tab begins one", async () => {
	useFakeTime();
	const tab = open();
	const left = await giveUp(tab);
	const requests = hang("/auth/token");
	const refreshed = tab.refresh();
	await pass(100);
	assert.equal(states(left), "cancelled");
	requests[0].answer(alive());
	await pass(100);
	assert.equal((await refreshed).subject, "alice");
});

test("a login cancels the requests of a refresh that was given up, in every tab, before its answer can bring cookies", async () => {
	server["/auth/session"] = () => alive({ session_id: "s2" });
	for (const where of ["here", "in another tab"]) {
		number++;
		useFakeTime();
		const [tab, other] = [open(), open()];
		const left = await giveUp(tab);
		let then;
		const login = (where === "here" ? tab : other).login(async () => {
			if (where !== "here") await told(tab, "begun");
			then = states(left);
			return json(200, {});
		});
		await pass(100); // which gives up the lock
		assert.equal((await login).status, 200);
		assert.equal(then, "cancelled", where);
		mock.timers.reset();
	}
});

test("a refresh in another tab cancels the requests that began before its answer, and no others", async () => {
	useFakeTime();
	const tab = open();
	const left = await giveUp(tab);
	const requests = hang("/auth/token");
	tab.refresh().catch(() => {});
	await pass(5000);
	assert.equal(states(left), "cancelled");
	assert.equal(requests.length, 2);
	const news = (at) => ({
		kind: "refreshed", at, asked: Date.now() - 5000,
		info: { session_id: "s1", expires_at: Date.now() + 1e6, refresh_expires_at: Date.now() + 1e6 },
	});
	await tell(tab, news(Date.now() - 1000));
	assert.deepEqual(requests.map((r) => r.state), ["cancelled", "pending"], "the second has the new cookie");
	await tell(tab, news(Date.now()));
	assert.equal(requests[1].state, "pending", "it may have the new cookie");
	await pass(3900);
	assert.equal(requests[1].state, "pending");
	await pass(200);
	assert.equal(requests[1].state, "cancelled", "or be late");
});

test("no attempt begins while an answer's body is awaited", async () => {
	useFakeTime();
	const requests = hang("/auth/token");
	const tab = open();
	let who;
	tab.refresh().then((info) => (who = info.subject));
	await pass(3000);
	const answer = inParts(alive());
	requests[0].answer(answer.headers);
	await pass(3000);
	assert.equal(requests.length, 1, "the next one would be a refresh of its own, with the new cookie");
	await answer.body();
	await pass(100);
	assert.equal(who, "alice");
	assert.equal(requests.length, 1);
});

test("an attempt that was answered after the next one began is waited for, too", async () => {
	useFakeTime();
	const requests = hang("/auth/token");
	const tab = open();
	let who;
	tab.refresh().then((info) => (who = info.subject));
	await pass(6000);
	assert.equal(requests.length, 2);
	const answer = inParts(alive());
	requests[0].answer(answer.headers);
	await pass(3000);
	assert.equal(requests.length, 2);
	await answer.body();
	await pass(100);
	assert.equal(who, "alice");
	assert.equal(requests[1].state, "cancelled");
});

test("nor does one begin if that answer comes in the pause before it", async () => {
	useFakeTime();
	const requests = hang("/auth/token");
	const tab = open();
	let who;
	tab.refresh().then((info) => (who = info.subject));
	await pass(4500);
	assert.equal(requests.length, 2);
	requests[1].answer(busy(2));
	await pass(1000);
	const answer = inParts(alive());
	requests[0].answer(answer.headers);
	await pass(3000);
	assert.equal(requests.length, 2);
	await answer.body();
	await pass(100);
	assert.equal(who, "alice");
});

test("a refresh whose answer has lost its body has worked, and who it is gets asked for", async () => {
	for (const [name, lose] of [["late", () => {}], ["broken off", (answer) => answer.breakOff()]]) {
		number++;
		sent = [];
		useFakeTime();
		server["/auth/session"] = () => alive();
		const [tab, other] = [open(), open()];
		await tab.info();
		await heard(other, "update");
		other.told = [];
		server["/auth/session"] = () => alive({ scope: "new" });
		server["/auth/token"] = () => {
			const answer = inParts(alive());
			lose(answer);
			return answer.headers;
		};
		let scope;
		tab.refresh().then((info) => (scope = info.scope));
		await pass(5000);
		assert.equal(scope, "new", name);
		assert.equal(count("POST /auth/token"), 1, name);
		await told(other, "seen");
		assert.equal(new Set([...tab.events, ...other.events]).size, 1, name);
		mock.timers.reset();
	}
});

test("nothing else is taken for a refresh because its body is missing", async () => {
	for (const [name, response] of [
		["a network that wants to be paid", () => new Response("<h1>Pay</h1>", { headers: { "Content-Type": "text/html" } })],
		["503", () => busy()],
		["400", over],
	]) {
		number++;
		useFakeTime();
		server["/auth/token"] = () => inParts(response()).headers;
		const tab = open();
		const rejected = assert.rejects(tab.refresh(), UnavailableError, name);
		await pass(20_000);
		await rejected;
		assert.deepEqual(tab.events, [], name);
		assert.equal(count("GET /auth/session"), 0, name);
		mock.timers.reset();
	}
});

// The server forgives a repeated refresh for a few seconds. A clock that somebody sets back, or that the network corrects,
// must not make them an hour.
test("no attempt begins late because the clock was set back", async () => {
	mock.timers.enable({ apis: ["setTimeout"] });
	let [steady, offset] = [0, 1_700_000_000_000];
	const clocks = [mock.method(performance, "now", () => steady), mock.method(Date, "now", () => offset + steady)];
	try {
		const began = [];
		server["/auth/token"] = () => {
			began.push(steady);
			if (began.length === 1) offset -= 3_600_000;
			return json(502, {});
		};
		const tab = open();
		const refresh = tab.refresh().catch((err) => err);
		for (; steady < 20_000; steady += 50) {
			mock.timers.tick(50);
			await settle();
		}
		assert.ok(began.length > 2 && began.at(-1) <= 8100, `requests after ${began} ms`);
		assert.ok((await Promise.race([refresh, settle()])) instanceof UnavailableError);
		assert.deepEqual(tab.events, []);
	} finally {
		for (const clock of clocks) clock.mock.restore();
	}
});

test("no attempt begins late because the device slept", async () => {
	useFakeTime();
	const requests = hang("/auth/token");
	let failure;
	open().refresh().catch((err) => (failure = err.name));
	await pass(100);
	requests[0].answer(json(502, {}));
	await settle();
	mock.timers.setTime(Date.now() + 3_600_000);
	await pass(1000);
	assert.equal(requests.length, 1);
	assert.equal(failure, "UnavailableError");
});

test("a page that goes away in the middle of a refresh sends it once more, as a request that outlives the page", async () => {
	const leave = [];
	globalThis.addEventListener = (type, listener) => type === "pagehide" && leave.push(listener);
	try {
		useFakeTime();
		const tab = open();
		leave[0]();
		assert.deepEqual(sent, [], "nobody refreshes");

		const requests = hang("/auth/token");
		const rejected = assert.rejects(tab.refresh(), UnavailableError);
		await pass(5000);
		assert.equal(requests.length, 2);
		leave[0]();
		assert.deepEqual(requests.map((r) => r.state), ["cancelled", "cancelled", "pending"]);
		assert.deepEqual(kept.map((r) => r.keepalive), [false, false, true]);
		await pass(20_000);
		await rejected;
		const before = requests.length;
		leave[0]();
		assert.equal(requests.length, before, "it was given up");
		assert.equal(states(requests.toSpliced(2, 1)), "cancelled");

		const refreshed = tab.refresh();
		await pass(100);
		const answer = inParts(alive());
		requests.at(-1).answer(answer.headers);
		await pass(100);
		const n = requests.length;
		leave[0]();
		assert.equal(requests.length, n, "the cookies are there");
		refreshed.catch(() => {});
		await pass(20_000);
	} finally {
		delete globalThis.addEventListener;
	}
});

test("a login elsewhere, without locks, lets a refresh begin anew", async () => {
	useFakeTime();
	server["/auth/token"] = ({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
	const tab = open();
	const refreshed = tab.refresh();
	await pass(100);
	server["/auth/token"] = () => alive({ session_id: "s2" });
	const without = new BroadcastChannel(`tokensession /${number}/`);
	without.postMessage({ kind: "login", at: Date.now() });
	await told(tab, "login");
	await pass(500);
	assert.equal(count("POST /auth/token"), 2);
	assert.equal((await refreshed).session_id, "s2");
});

test("a 401 of before the login does not refresh the new session", async () => {
	const [tab, other] = [open(), open()];
	let answer;
	server["/auth/session"] = () => new Promise((resolve) => (answer = () => resolve(refused())));
	const asked = other.info();
	await settle();
	server["/auth/session"] = () => alive();
	server["/auth/token"] = () => alive();
	await tab.login(async () => json(200, {}));
	await heard(other, "update");
	answer();
	assert.equal((await asked).subject, "alice");
	assert.equal(count("POST /auth/token"), 0);
});

test("an answer of before a login elsewhere is not taken for the new session's", async () => {
	for (const before of ["alice", "nobody"]) {
		number++;
		const [tab, other] = [open(), open()];
		if (before === "alice") {
			server["/auth/session"] = () => alive();
		} else {
			server["/auth/session"] = refused;
			server["/auth/token"] = over;
		}
		await tab.info();
		let answer;
		server["/auth/session"] = () => new Promise((resolve) => (answer = () => resolve(alive())));
		const asked = tab.info();
		await settle();
		let seen; // the other tab's info, whose news are late
		server["/auth/session"] = () => new Promise((resolve) => (seen = () => resolve(alive({ session_id: "s2", subject: "bob" }))));
		const login = other.login(async () => json(200, {}));
		await told(tab, "login");
		server["/auth/session"] = () => alive({ session_id: "s2", subject: "bob" });
		answer();
		assert.equal((await asked).subject, "bob", before);
		seen();
		await login;
		assert.ok(tab.subjects.slice(1).every((subject) => subject === "bob"), `${before}: ${tab.subjects}`);
	}
});

test("news of a login are not of before it, however late a tab hears", async () => {
	useFakeTime();
	const tab = open();
	const channel = new BroadcastChannel(`tokensession /${number}/`);
	const now = Date.now();
	mock.timers.tick(5000);
	channel.postMessage({ kind: "ended", reason: "logout", at: now });
	channel.postMessage({ kind: "login", at: now + 1000 });
	channel.postMessage({ kind: "seen", asked: now + 1000, info: { session_id: "s2", expires_at: now + 1e6, refresh_expires_at: now + 1e6 } });
	mock.timers.reset();
	await heard(tab, "update");
	assert.deepEqual(tab.events, ["end logout", "update"]);
});

test("what was asked in the millisecond of an end is of before it, and a login's own news are not", async () => {
	useFakeTime(); // which stands still
	server["/auth/logout"] = () => json(200, {});
	server["/auth/session"] = () => alive();
	const [tab, other] = [open(), open()];
	await tab.info();
	await heard(other, "update");
	await tab.logout();
	const channel = new BroadcastChannel(`tokensession /${number}/`);
	const now = Date.now();
	tab.told = [];
	channel.postMessage({ kind: "seen", asked: now, info: { session_id: "s1", expires_at: now + 1e6, refresh_expires_at: now + 1e6 } });
	await told(tab, "seen");
	await heard(other, "end logout");
	assert.deepEqual(tab.events, ["update", "end logout"]);
	assert.deepEqual(other.events, ["update", "end logout"]);

	mock.timers.tick(50); // the logout gives up the lock
	mock.timers.setTime(now);
	server["/auth/session"] = () => alive({ session_id: "s2" });
	const login = tab.login(async () => json(200, {}));
	await settle();
	await login;
	await heard(other, "update");
	assert.equal(other.subjects.length, 2);
});

test("a clock that is set back does not make a tab's own answers old", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive({ session_id: "s2" });
	const tab = open();
	const login = tab.login(async () => json(200, {}));
	await pass(100);
	await login;
	mock.timers.setTime(1_600_000_000_000);
	server["/auth/session"] = () => alive({ session_id: "s2", scope: "more" });
	assert.equal((await tab.info()).scope, "more");
	server["/auth/token"] = () => alive({ session_id: "s2", scope: "most" });
	const refreshed = tab.refresh();
	await pass(100);
	assert.equal((await refreshed).scope, "most");
});

test("a 401 of before a login elsewhere is not the answer to who is logged in", async () => {
	const tab = open();
	const channel = new BroadcastChannel(`tokensession /${number}/`);
	let answer;
	server["/login"] = () => new Promise(() => {});
	server["/auth/session"] = () => new Promise((resolve) => (answer = () => resolve(refused())));
	tab.login(() => tab.fetch(`${origin}/login`)); // which keeps the fetch from refreshing
	await settle();
	const asked = tab.info();
	await settle();
	channel.postMessage({ kind: "login", at: Date.now() });
	await told(tab, "login");
	server["/auth/session"] = () => alive();
	answer();
	assert.equal((await asked).subject, "alice");
});

// loginElsewhere is another tab's login, or that of a page without the script, of which nobody hears.
async function loginElsewhere(tab, heard = true) {
	server["/auth/session"] = () => alive({ session_id: "s2", subject: "bob" });
	server["/auth/token"] = () => alive({ session_id: "s2", subject: "bob" });
	if (!heard) return;
	new BroadcastChannel(`tokensession /${number}/`).postMessage({ kind: "login", at: Date.now() + 1 });
	await told(tab, "login");
}

test("a request names the session that it was made in, and is not sent again in another", async () => {
	for (const knows of [false, true]) {
		for (const hears of [false, true]) {
			const name = `knows ${knows}, hears ${hears}`;
			number++;
			sent = [];
			kept = [];
			server["/auth/session"] = () => alive();
			const tab = open();
			if (knows) await tab.info();
			const saved = [];
			let answer;
			server["/api"] = async (request) => {
				saved.push([request.headers.get("Tokensession-Session"), await request.text()]);
				return new Promise((resolve) => (answer = () => resolve(refused())));
			};
			const response = tab.fetch(`${origin}/api`, { method: "POST", body: "alice's" });
			while (!answer) await settle();
			await loginElsewhere(tab, hears);
			server["/api"] = async (request) => {
				saved.push([request.headers.get("Tokensession-Session"), await request.text()]);
				return json(200, {});
			};
			answer();
			const { status } = await response;
			if (knows || hears) {
				assert.equal(status, 401, name);
				assert.deepEqual(saved, [[knows ? "s1" : null, "alice's"]], name);
			} else {
				assert.deepEqual(saved, [[null, "alice's"], ["s2", "alice's"]], name); // whose it was, nobody knows
			}
		}
	}
});

test("a request that was made when nobody was logged in is not sent again as somebody's", async () => {
	for (const hears of [false, true]) {
		number++;
		sent = [];
		server["/auth/session"] = () => json(200, null);
		const tab = open();
		await tab.info();
		let answer;
		server["/api"] = () => new Promise((resolve) => (answer = () => resolve(refused())));
		const response = tab.fetch(`${origin}/api`);
		await settle();
		await loginElsewhere(tab, hears);
		answer();
		assert.equal((await response).status, 401);
		assert.equal(count("GET /api"), 1);
		server["/api"] = () => json(200, {});
		assert.equal((await tab.fetch(`${origin}/api`)).status, 200);
	}
});

test("a request that a page made in a session it had not heard of is sent again in that one only", async () => {
	for (const asked of [false, true]) {
		for (const [session, status] of [["s2", 200], ["s1", 401]]) {
			number++;
			sent = [];
			server["/auth/session"] = () => json(200, null);
			const tab = open();
			if (asked) await tab.info();
			await loginElsewhere(tab, false);
			server["/api"] = () => {
				server["/api"] = () => json(200, {});
				return json(401, {}, { "Tokensession-Session": session });
			};
			assert.equal((await tab.fetch(`${origin}/api`)).status, status);
			assert.equal(count("POST /auth/token"), 1);
		}
	}
});

test("a request that waits for a refresh is rejected if somebody else logs in", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive({ expires_in: 60 });
	const tab = open();
	await tab.info();
	await pass(61_000);
	server["/api"] = () => json(200, {});
	let answer;
	server["/auth/token"] = () => new Promise((resolve) => (answer = () => resolve(alive({ session_id: "s2", subject: "bob" }))));
	const rejected = assert.rejects(tab.fetch(`${origin}/api`), SessionChangedError);
	await pass(100);
	answer();
	await pass(100);
	await rejected;
	assert.equal(count("GET /api"), 0);
	const next = tab.fetch(`${origin}/api`);
	await pass(100);
	assert.equal((await next).status, 200);
	assert.equal(kept.at(-1).headers.get("Tokensession-Session"), "s2");
});

test("a request that waits for another tab's login is rejected", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive({ expires_in: 60 });
	const locks = withoutFreezing();
	const [tab, other] = [withLocks(locks, open), withLocks(locks, open)];
	await tab.info();
	await pass(61_000);
	server["/api"] = () => json(200, {});
	let logIn;
	const login = other.login(() => new Promise((resolve) => (logIn = () => resolve(json(200, {})))));
	await settle();
	const rejected = assert.rejects(tab.fetch(`${origin}/api`), SessionChangedError);
	await pass(1000);
	server["/auth/session"] = () => alive({ session_id: "s2", subject: "bob" });
	logIn();
	await told(tab, "login");
	await pass(1000);
	await login;
	await rejected;
	assert.equal(count("GET /api"), 0);
	assert.equal(count("POST /auth/token"), 0);
});

// withoutFreezing is how the tabs of one browser have locks.
function withoutFreezing() {
	let last = Promise.resolve();
	return { request: (_name, _options, work) => (last = last.then(work, work)) };
}

test("a page that has never asked learns its session from an answer, and names it", async () => {
	server["/api"] = () => json(200, {}, { "Tokensession-Session": "s1" });
	const tab = open();
	await tab.fetch(`${origin}/api`);
	await tab.fetch(`${origin}/api`);
	assert.deepEqual(kept.map((r) => r.headers.get("Tokensession-Session")), [null, "s1"]);
	await loginElsewhere(tab);
	await tab.fetch(`${origin}/api`);
	assert.equal(kept.at(-1).headers.get("Tokensession-Session"), null);
});

test("a page that took nobody to be logged in learns from an answer that somebody is", async () => {
	server["/auth/session"] = () => json(200, null);
	const tab = open();
	await tab.info();
	await loginElsewhere(tab, false);
	server["/api"] = () => json(200, {}, { "Tokensession-Session": "s2" });
	await tab.fetch(`${origin}/api`);
	await heard(tab, "update");
	assert.deepEqual(tab.subjects, ["bob"]);
});

const changed = () => json(401, { error: "session_changed" }, { "WWW-Authenticate": 'Bearer error="session_changed"' });

test("what the server refuses as another session's is not sent again, and the page learns who is logged in", async () => {
	server["/auth/session"] = () => alive();
	const tab = open();
	await tab.info();
	await loginElsewhere(tab, false);
	server["/api"] = changed;
	assert.equal((await tab.fetch(`${origin}/api`)).status, 401);
	await new Promise((resolve) => tab.addEventListener("update", resolve, { once: true }));
	assert.deepEqual(tab.subjects, ["alice", "bob"]);
	assert.deepEqual([count("GET /api"), count("POST /auth/token")], [1, 0]);
});

test("a logout ends the session that the page knows of, and no other", async () => {
	server["/auth/session"] = () => alive();
	const tab = open();
	await tab.info();
	await loginElsewhere(tab, false);
	server["/auth/logout"] = (request) => (request.headers.get("Tokensession-Session") === "s2" ? json(200, {}) : changed());
	await assert.rejects(tab.logout(), SessionChangedError);
	assert.equal(count("POST /auth/logout"), 1);
	assert.ok(!tab.events.includes("end logout"));
	assert.equal((await tab.info()).subject, "bob");
	await tab.logout();
	assert.equal(tab.events.at(-1), "end logout");
});

test("a logout that the server cannot tell the session of refreshes and tries again", async () => {
	server["/auth/session"] = () => alive();
	for (const [refresh, answers] of [[alive, 1], [over, 0]]) {
		number++;
		sent = [];
		let refreshes = 0;
		server["/auth/token"] = () => (refreshes++, refresh());
		server["/auth/logout"] = () => (refreshes > 0 ? json(200, {}) : refused());
		const tab = open();
		await tab.info();
		await tab.logout();
		assert.equal(tab.events.at(-1), "end logout");
		assert.equal(count("POST /auth/logout"), 1 + answers);
	}
});

test("a 401 that no refresh cures makes one refresh, and then none for 30 seconds", async () => {
	useFakeTime();
	expired();
	const api = server["/api"];
	server["/never"] = refused;
	const [tab, other] = [open(), open()];
	const calls = async (n, tab) => {
		for (let i = 0; i < n; i++) {
			const response = tab.fetch(`${origin}/never`);
			await pass(100);
			assert.equal((await response).status, 401);
		}
	};
	await calls(20, tab);
	assert.equal(count("POST /auth/token"), 1);
	await told(other, "vain");
	await calls(5, other);
	assert.equal(count("POST /auth/token"), 1, "in another tab");
	await pass(30_000);
	await calls(20, tab);
	assert.equal(count("POST /auth/token"), 2);
	server["/api"] = api;
	const response = tab.fetch(`${origin}/api`);
	await pass(100);
	assert.equal((await response).status, 200, "another route works");
});

test("a pause after a vain refresh hides no verdict from who asks", async () => {
	server["/never"] = refused;
	server["/auth/token"] = () => alive();
	server["/auth/session"] = () => alive();
	const tab = open();
	await tab.info();
	await tab.fetch(`${origin}/never`);
	server["/auth/session"] = refused;
	server["/auth/token"] = over;
	assert.equal((await tab.fetch(`${origin}/never`)).status, 401);
	assert.equal(count("POST /auth/token"), 1);
	assert.equal(await tab.info(), null);
	assert.equal(tab.events.at(-1), "end ended");
});

test("asking again and again does not refresh again and again", async () => {
	server["/auth/token"] = () => alive();
	server["/auth/session"] = refused;
	const tab = open();
	for (let i = 0; i < 20; i++) await assert.rejects(tab.info(), UnavailableError);
	assert.equal(count("POST /auth/token"), 1);
});

test("only a challenge that asks for a better token is answered with a refresh", async () => {
	server["/auth/token"] = () => alive();
	for (const [challenge, refreshes] of [
		[undefined, 1],
		["Bearer", 1],
		['Bearer error="invalid_token"', 1],
		["bearer realm=\"x\", error=invalid_token", 1],
		['Basic realm="x", Bearer error="invalid_token"', 1],
		['Bearer error="insufficient_user_authentication", max_age="300"', 0],
		['Bearer error="session_changed"', 0],
		['Basic realm="staging"', 0],
		["Negotiate", 0],
	]) {
		number++;
		sent = [];
		server["/auth/session"] = () => alive();
		server["/api"] = () => json(401, {}, challenge && { "WWW-Authenticate": challenge });
		assert.equal((await open().fetch(`${origin}/api`)).status, 401);
		assert.equal(count("POST /auth/token"), refreshes, challenge);
	}
});

test("a login that failed tells nothing, and one that threw rejects and blocks nobody", async () => {
	const tab = open();
	assert.equal((await tab.login(async () => json(401, {}))).status, 401);
	await assert.rejects(tab.login(() => { throw new Error("no such form"); }), /no such form/);
	assert.deepEqual(tab.events, []);
	expired();
	assert.equal((await tab.fetch(`${origin}/api`)).status, 200);
});

test("a login that worked has worked, whatever comes of the question who it is", async () => {
	const [tab, other] = [open(), open()];
	for (const answer of [() => json(500, {}), () => { throw new TypeError("Failed to fetch"); }, () => json(200, {})]) {
		server["/auth/session"] = answer;
		assert.equal((await tab.login(async () => json(200, {}))).status, 200);
		await told(other, "login");
		other.told = [];
	}
	assert.deepEqual(tab.events, []);
	server["/auth/session"] = () => alive();
	assert.equal((await tab.info()).subject, "alice");
});

test("a login may use the session's fetch, and gets the 401", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive({ expires_in: 60 });
	server["/auth/token"] = () => alive({ session_id: "s2" });
	const tab = open();
	await tab.info();
	server["/login"] = refused;
	for (const age of [0, 60_000]) { // with an access token that looks good, and with one that has run out
		await pass(age);
		let status;
		tab.login(() => tab.fetch(`${origin}/login`, { method: "POST", body: "wrong" })).then((response) => (status = response.status));
		await pass(1000);
		assert.equal(status, 401);
	}
	assert.deepEqual(sent, ["GET /auth/session", "POST /login", "POST /login"]);
	const refreshed = tab.refresh();
	await pass(100);
	assert.equal((await refreshed).session_id, "s2", "the login is over");
});

test("a login that hangs gives up the lock, and still counts when it comes", async () => {
	useFakeTime();
	expired();
	server["/auth/session"] = () => alive({ session_id: "s2" });
	const tab = open();
	let answer;
	const login = tab.login(() => new Promise((resolve) => (answer = () => resolve(json(200, {})))));
	await pass(1000);
	let status;
	tab.refresh().then(() => tab.fetch(`${origin}/api`)).then((response) => (status = response.status));
	await pass(28_000);
	assert.equal(count("POST /auth/token"), 0);
	await pass(2000);
	assert.equal(status, 200);
	answer();
	assert.equal((await login).status, 200);
	assert.deepEqual(tab.events, ["update", "update"]);
	assert.equal((await tab.info()).session_id, "s2");
});

test("a caller that has given up before costs no refresh", async () => {
	server["/auth/session"] = () => alive({ expires_in: 1 });
	const tab = open();
	await tab.info();
	await assert.rejects(tab.fetch(`${origin}/api`, { signal: AbortSignal.abort() }), { name: "AbortError" });
	await settle();
	assert.equal(count("POST /auth/token"), 0);
});

// A body that nobody reads keeps its connection, and a browser has six of them.
test("a refusal that the caller does not get is given up", async () => {
	let cancelled = 0;
	const stalls = () => new ReadableStream({ pull: () => new Promise(() => {}), cancel: () => void cancelled++ });
	server["/api"] = () => new Response(stalls(), { status: 401 });
	server["/auth/token"] = () => json(403, {});
	await assert.rejects(open().fetch(`${origin}/api`), UnavailableError);
	assert.equal(cancelled, 1, "the refresh failed");

	server["/auth/token"] = () => new Promise(() => {});
	const caller = new AbortController();
	const given = open().fetch(`${origin}/api`, { signal: caller.signal });
	await until(() => count("POST /auth/token") === 2);
	caller.abort();
	await assert.rejects(given, { name: "AbortError" });
	assert.equal(cancelled, 2, "the caller has given up");

	const tab = open();
	asks(tab, () => new Promise(() => {}));
	server["/api"] = () => new Response(stalls(), { status: 401, headers: challenged().headers });
	const asking = new AbortController();
	const asked = tab.fetch(`${origin}/api`, { signal: asking.signal });
	await settle();
	asking.abort();
	await assert.rejects(asked, { name: "AbortError" });
	assert.equal(cancelled, 3, "the caller waits for no dialog");
});

test("who is logged in is not told by JSON of somebody else", async () => {
	for (const body of [{}, [], { session_id: "s1" }, { session_id: "s1", expires_in: "soon", refresh_expires_in: 1 }]) {
		const tab = open();
		server["/auth/session"] = () => json(200, body);
		await assert.rejects(tab.info(), UnavailableError, JSON.stringify(body));
		assert.deepEqual(tab.events, []);
		let timers = 0;
		const real = globalThis.setTimeout;
		globalThis.setTimeout = (...args) => (timers++, real(...args));
		await new Promise((resolve) => timeout(resolve, 30));
		globalThis.setTimeout = real;
		assert.equal(timers, 0, "it waits for no time that is none");
	}
});

test("a caller that gives up waits no longer", async () => {
	server["/api"] = refused;
	server["/auth/token"] = () => new Promise(() => {});
	const giveUp = new AbortController();
	const response = open().fetch(`${origin}/api`, { signal: giveUp.signal });
	await settle();
	giveUp.abort(new Error("enough"));
	await assert.rejects(response, /enough/);
});

test("it warns once before the end of an idle session, and a refresh helps", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive({ expires_in: 86400, refresh_expires_in: 3600, session_ends_in: 86400 });
	server["/auth/token"] = () => alive({ expires_in: 86400, refresh_expires_in: 3600, session_ends_in: 82800 });
	const tab = open();
	let warning;
	tab.addEventListener("warning", (e) => (warning = e.detail));
	await tab.info();
	await pass(3_299_000);
	assert.deepEqual(tab.events, ["update"]);
	await pass(2000);
	assert.deepEqual(tab.events, ["update", "warning"]);
	assert.equal(warning.extendable, true);
	await tab.info();
	assert.equal(tab.events.filter((e) => e === "warning").length, 1);
	await tab.refresh();
	await pass(3_299_000);
	assert.equal(tab.events.filter((e) => e === "warning").length, 1);
	await pass(2000);
	assert.equal(tab.events.filter((e) => e === "warning").length, 2);
});

test("of the absolute end it says that no refresh helps, as early as the page wants", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive({ refresh_expires_in: 600, session_ends_in: 600 });
	const tab = open();
	tab.warnBefore = 60_000;
	let warning;
	tab.addEventListener("warning", (e) => (warning = e.detail));
	await tab.info();
	await pass(539_000);
	assert.equal(warning, undefined);
	await pass(2000);
	assert.equal(warning.extendable, false);
});

test("when the end should have come, it asks the server", async () => {
	useFakeTime();
	server["/auth/session"] = () => alive({ refresh_expires_in: 60 });
	server["/auth/token"] = () => busy(100);
	const [tab, other] = [open(), open()];
	await tab.info();
	await other.info();
	await pass(62_000);
	assert.ok(!tab.events.some((e) => e.startsWith("end")), "an outage is no verdict");
	server["/auth/token"] = over;
	await pass(62_000);
	assert.equal(tab.events.at(-1), "end ended");
	assert.ok(count("POST /auth/token") <= 6, `${count("POST /auth/token")} refreshes`);
});

test("fetch can be passed on", async () => {
	expired();
	const { fetch } = open();
	assert.equal((await fetch(`${origin}/api`)).status, 200);
});

// What Config.Devices serves, for alice in s1 who also has s2.
function devices() {
	server["/auth/session"] = () => alive();
	server["/auth/sessions"] = () => json(200, { sessions: [
		{ id: "s1", current: true, created_at: "2026-01-02T03:04:05Z" },
		{ id: "s2", current: false, created_at: "2026-01-01T00:00:00Z", last_seen: "2026-01-01T12:00:00.5Z", attributes: { device: "phone" } },
	] });
	server["/auth/sessions/s2"] = () => json(200, {});
	server["/auth/sessions/s3"] = () => json(404, { error: "not_found" });
	server["/auth/sessions/revoke-others"] = () => json(200, { ended: 1 });
}

test("a user sees their devices, and signs the others out", async () => {
	devices();
	const tab = open();
	assert.deepEqual(await tab.devices(), [
		{ id: "s1", current: true, created_at: Date.UTC(2026, 0, 2, 3, 4, 5) },
		{ id: "s2", current: false, created_at: Date.UTC(2026, 0, 1), last_seen: Date.UTC(2026, 0, 1, 12) + 500, attributes: { device: "phone" } },
	]);
	assert.equal(await tab.revoke("s2"), true);
	assert.equal(await tab.revoke("s3"), false, "it is no session of the user's");
	assert.equal(await tab.revokeOthers(), 1);
	assert.deepEqual(tab.events.filter((e) => e.startsWith("end")), []);
	assert.deepEqual(sent, ["GET /auth/sessions", "GET /auth/session",
		"DELETE /auth/sessions/s2", "DELETE /auth/sessions/s3", "POST /auth/sessions/revoke-others"]);
	assert.equal(kept.at(-1).headers.get("Tokensession-Session"), "s1");
});

test("who signs out the current device logs out, in every tab", async () => {
	devices();
	server["/auth/logout"] = () => json(200, {});
	const [tab, other] = [open(), open()];
	await other.info();
	assert.equal(await tab.revoke("s1"), true);
	assert.equal(tab.events.at(-1), "end logout");
	await heard(other, "end logout");
	assert.deepEqual([count("POST /auth/logout"), sent.filter((s) => s.startsWith("DELETE")).length], [1, 0]);
});

test("of nobody there are no devices", async () => {
	server["/auth/session"] = () => json(200, null);
	server["/auth/sessions"] = server["/auth/sessions/revoke-others"] = refused;
	server["/auth/token"] = over;
	const tab = open();
	assert.deepEqual([await tab.devices(), await tab.revoke("s2"), await tab.revokeOthers()], [null, null, null]);
	assert.deepEqual(tab.events, []);
});

test("devices are listed with an access token that has run out", async () => {
	expired();
	devices();
	const list = server["/auth/sessions"];
	server["/auth/sessions"] = () => (count("POST /auth/token") > 0 ? list() : refused());
	assert.equal((await open().devices()).length, 2);
});

test("what does not become of a device is an error, and ends nothing", async () => {
	devices();
	const tab = open();
	await tab.info();
	for (const [answer, error] of [
		[() => busy(7), { name: "UnavailableError", status: 503, retryAfter: 7000, transient: true }],
		[() => { throw new TypeError("Failed to fetch"); }, { name: "UnavailableError", status: 0, transient: true }],
		[() => new Response("404 page not found", { status: 404 }), { name: "UnavailableError", status: 404, transient: false }],
		[() => json(404, { error: "no such route" }), { name: "UnavailableError", status: 404 }],
		[() => new Response("<p>Pay for the network</p>"), { name: "UnavailableError", status: 200 }],
		[() => new Response("null"), { name: "UnavailableError", status: 200 }],
		[changed, { name: "SessionChangedError" }],
	]) {
		server["/auth/sessions"] = server["/auth/sessions/s2"] = server["/auth/sessions/revoke-others"] = answer;
		await assert.rejects(tab.devices(), error);
		await assert.rejects(tab.revoke("s2"), error);
		await assert.rejects(tab.revokeOthers(), error);
	}
	// JSON of somebody else does not say that nobody is logged in.
	for (const body of [{}, [], "maintenance", { sessions: null, ended: "1" }]) {
		server["/auth/sessions"] = server["/auth/sessions/revoke-others"] = () => json(200, body);
		await assert.rejects(tab.devices(), { name: "UnavailableError", status: 200 });
		await assert.rejects(tab.revokeOthers(), { name: "UnavailableError", status: 200 });
	}
	for (const id of [undefined, null, 7, "", "..", "a/b", "s2?x"]) await assert.rejects(tab.revoke(id), TypeError);
	assert.ok(!tab.events.some((e) => e.startsWith("end")));
});

const challenged = (challenge = 'max_age="300"') =>
	json(401, {}, { "WWW-Authenticate": `Bearer error="insufficient_user_authentication", ${challenge}` });

// guarded has the API ask for a step-up until there has been one.
function guarded(challenge) {
	let proved = false;
	server["/auth/session"] = () => alive();
	server["/auth/token"] = () => alive();
	server["/api"] = async (request) => (proved ? new Response(await request.text()) : challenged(challenge));
	server["/auth/step-up"] = async (request) => {
		proved = (await request.text()) === "right";
		return json(proved ? 200 : 403, {});
	};
}
const stepUp = (tab, body = "right") => tab.stepUp(`${origin}/${number}/step-up`, { method: "POST", body });

// until waits for what needs no time, and fails instead of waiting for ever.
async function until(done) {
	for (let i = 0; i < 1000 && !done(); i++) await new Promise((resolve) => timeout(resolve, 1));
	assert.ok(done(), `${done}`);
}

// asks has a tab's page open a dialog at each stepup event, and returns the details of the events.
function asks(tab, dialog) {
	const asked = [];
	tab.addEventListener("stepup", (e) => {
		asked.push(e.detail);
		if (dialog) e.detail.waitUntil(dialog(e.detail));
	});
	return asked;
}

test("a step-up is asked for, and then the request goes again, and no refresh was made", async () => {
	guarded('acr_values="pwd otp", max_age="300"');
	const tab = open();
	await tab.info();
	const asked = asks(tab, () => stepUp(tab));
	const response = await tab.fetch(`${origin}/api`, { method: "POST", body: "hello" });
	assert.equal(await response.text(), "hello");
	assert.deepEqual(sent, ["GET /auth/session", "POST /api", "POST /auth/step-up", "GET /auth/session", "POST /api"]);
	assert.deepEqual(asked.map(({ max_age, acr_values }) => [max_age, acr_values]), [[300, ["pwd", "otp"]]]);
	assert.equal(kept[2].headers.get("Tokensession-Session"), "s1");
	assert.throws(() => asked[0].waitUntil(Promise.resolve()), /over/);
});

test("a page without a dialog, and a user who gives up, get the 401", async () => {
	for (const dialog of [
		undefined,
		async () => null,
		async () => { throw new Error("the dialog was closed"); },
		(tab) => stepUp(tab, "wrong"),
	]) {
		number++;
		guarded();
		const tab = open();
		const asked = asks(tab, dialog && (() => dialog(tab)));
		for (const times of [1, 2]) {
			assert.equal((await tab.fetch(`${origin}/api`)).status, 401);
			assert.equal(asked.length, times);
		}
		assert.equal(count("POST /auth/token"), 0);
	}
});

test("a challenge is read as RFC 9470 has it, and nothing is read into its strings", async () => {
	for (const [challenge, max_age, acr_values] of [
		["max_age=0", 0, []],
		['error_description="error=\\"x\\", max_age=7"', undefined, []],
		['acr_values="urn:mace:incommon:iap:silver  x"', undefined, ["urn:mace:incommon:iap:silver", "x"]],
		['max_age="soon"', undefined, []],
	]) {
		number++;
		guarded(challenge);
		const tab = open();
		const asked = asks(tab);
		await tab.fetch(`${origin}/api`);
		assert.deepEqual(asked.map((a) => [a.max_age, a.acr_values]), [[max_age, acr_values]], challenge);
	}
	number++;
	server["/auth/token"] = () => alive();
	server["/api"] = () => json(401, {}, { "WWW-Authenticate": 'Bearer error_description="x, error=insufficient_user_authentication", error="invalid_token"' });
	const tab = open();
	const asked = asks(tab);
	sent = [];
	await tab.fetch(`${origin}/api`);
	assert.deepEqual([asked.length, count("POST /auth/token")], [0, 1]);
});

test("many requests wait for one dialog, and one that was refused before it goes again without", async () => {
	guarded();
	const tab = open();
	await tab.info();
	const api = server["/api"];
	let answerLate;
	server["/late"] = async (request) => {
		if (answerLate) return api(request);
		return new Promise((resolve) => (answerLate = () => resolve(challenged())));
	};
	const late = tab.fetch(`${origin}/late`);
	let close;
	const asked = asks(tab, () => new Promise((resolve) => (close = resolve)));
	const answers = [];
	for (let i = 0; i < 3; i++) tab.fetch(`${origin}/api`).then((response) => answers.push(response.status));
	await until(() => count("GET /api") === 3 && close);
	await stepUp(tab);
	await settle();
	assert.equal(count("GET /api"), 3, "they wait for the dialog");
	close();
	await until(() => answers.length === 3);
	assert.deepEqual(answers, [200, 200, 200]);
	answerLate();
	await until(() => count("GET /late") === 2);
	assert.equal((await late).status, 200);
	assert.equal(asked.length, 1);
});

test("a step-up that was not enough asks once", async () => {
	guarded();
	server["/api"] = () => challenged();
	const tab = open();
	const asked = asks(tab, () => asked.length < 5 && stepUp(tab));
	assert.equal((await tab.fetch(`${origin}/api`)).status, 401);
	assert.deepEqual([asked.length, count("GET /api"), count("POST /auth/step-up")], [1, 2, 1]);
});

test("a step-up after a refresh has not made the refresh vain", async () => {
	guarded();
	let refreshes = 0;
	const api = server["/api"];
	server["/api"] = (request) => (refreshes > 0 ? api(request) : refused());
	server["/auth/token"] = () => (refreshes++, alive());
	const tab = open();
	asks(tab, () => stepUp(tab));
	assert.equal((await tab.fetch(`${origin}/api`)).status, 200);
	refreshes = 0;
	assert.equal((await tab.fetch(`${origin}/api`)).status, 200, "the next token that runs out is refreshed");
});

test("a step-up whose access token has run out in the dialog refreshes first", async () => {
	guarded();
	const prove = server["/auth/step-up"];
	server["/auth/step-up"] = (request) => (count("POST /auth/token") > 0 ? prove(request) : refused());
	const tab = open();
	await tab.info();
	assert.equal((await stepUp(tab)).status, 200);
	assert.deepEqual(sent.slice(1), ["POST /auth/step-up", "POST /auth/token", "POST /auth/step-up", "GET /auth/session"]);
	server["/auth/step-up"] = refused;
	sent = [];
	assert.equal((await stepUp(tab)).status, 401);
	assert.equal(count("POST /auth/token"), 1);
	server["/auth/token"] = over;
	assert.equal((await stepUp(tab)).status, 401);
	assert.equal(tab.events.at(-1), "end ended");
});

test("no tab refreshes during a step-up, and a late answer of before it is cancelled", async () => {
	useFakeTime();
	guarded();
	const locks = withoutFreezing();
	const [tab, other] = [withLocks(locks, open), withLocks(locks, open)];
	await tab.info();
	server["/auth/token"] = () => new Promise(() => {});
	const gaveUp = assert.rejects(other.refresh(), UnavailableError);
	await pass(20_000, 50);
	await gaveUp;
	const left = kept.filter((r) => r.url.endsWith("/token"));
	assert.ok(left.length > 0 && !left.some((r) => r.signal.aborted));
	const prove = server["/auth/step-up"];
	let answer;
	server["/auth/step-up"] = (request) => new Promise((resolve) => (answer = () => resolve(prove(request))));
	const done = stepUp(tab);
	await told(other, "begun");
	for (let i = 0; i < 1000 && left.some((r) => !r.signal.aborted); i++) await new Promise((resolve) => timeout(resolve, 10));
	assert.ok(left.every((r) => r.signal.aborted));
	sent = [];
	server["/auth/token"] = () => alive();
	const refreshed = other.refresh();
	await pass(1000);
	assert.equal(count("POST /auth/token"), 0);
	answer();
	await settle();
	await pass(1000);
	assert.equal((await done).status, 200);
	await pass(1000);
	await refreshed;
	assert.equal(count("POST /auth/token"), 1);
});

test("a step-up that hangs gives up the lock", async () => {
	useFakeTime();
	guarded();
	const tab = open();
	await tab.info();
	let answer;
	server["/auth/step-up"] = () => new Promise((resolve) => (answer = resolve));
	const done = stepUp(tab);
	let refreshed = false;
	tab.refresh().then(() => (refreshed = true));
	await pass(28_000);
	assert.equal(refreshed, false);
	await pass(4000);
	assert.equal(refreshed, true);
	answer(json(200, {}));
	assert.equal((await done).status, 200);
});

test("the new times are told in every tab, and a step-up there counts here", async () => {
	guarded();
	const [tab, other] = [open(), open()];
	await tab.info();
	await heard(other, "update");
	let close;
	asks(other, () => new Promise((resolve) => (close = resolve)));
	const response = other.fetch(`${origin}/api`);
	await until(() => close);
	server["/auth/session"] = () => alive({ expires_in: 1800 });
	await stepUp(tab);
	await told(other, "proved");
	await until(() => other.events.length === 2);
	close();
	assert.equal((await response).status, 200);
});

test("a request whose dialog is open is not sent as somebody else's, and the next user gets a dialog of their own", async () => {
	for (const proved of [false, true]) {
		number++;
		sent = [];
		guarded();
		const tab = open();
		await tab.info();
		const asked = asks(tab, () => new Promise(() => {}));
		let status;
		tab.fetch(`${origin}/api`).then((response) => (status = response.status));
		await until(() => asked.length === 1);
		if (proved) await stepUp(tab);
		server["/auth/session"] = () => alive({ session_id: "s2", subject: "bob" });
		server["/api"] = () => challenged();
		await tab.login(async () => json(200, {}));
		await until(() => status === 401);
		assert.equal(count("GET /api"), 1);
		tab.fetch(`${origin}/api`);
		await until(() => asked.length === 2);
	}
});

test("a step-up goes to no other origin", async () => {
	await assert.rejects(open().stepUp("http://localhost:2/step-up", { method: "POST", body: "right" }), TypeError);
	assert.deepEqual(sent, []);
});

test("a step-up that waits for another tab's login is rejected", async () => {
	useFakeTime();
	guarded();
	const locks = withoutFreezing();
	const [tab, other] = [withLocks(locks, open), withLocks(locks, open)];
	await tab.info();
	let logIn;
	const login = other.login(() => new Promise((resolve) => (logIn = () => resolve(json(200, {})))));
	await settle();
	const rejected = assert.rejects(stepUp(tab), SessionChangedError);
	await pass(1000);
	logIn();
	await told(tab, "login");
	await pass(1000);
	await login;
	await rejected;
	assert.equal(count("POST /auth/step-up"), 0);
});

test("a caller that gives up waits for no dialog", async () => {
	guarded();
	const tab = open();
	const asked = asks(tab, () => new Promise(() => {}));
	const giveUp = new AbortController();
	const response = tab.fetch(`${origin}/api`, { signal: giveUp.signal });
	await until(() => asked.length === 1);
	giveUp.abort(new Error("enough"));
	await assert.rejects(response, /enough/);
});

// elsewhere is a page of another origin than the endpoints'. Without more, one that can have a session.
async function elsewhere(work, page = "https://app.shop.example", secure = true) {
	const globals = { location: { origin: page, href: page === "null" ? "about:srcdoc" : page + "/start" }, isSecureContext: secure };
	for (const [name, value] of Object.entries(globals)) {
		Object.defineProperty(globalThis, name, { configurable: true, value });
	}
	try {
		return await work();
	} finally {
		for (const name of Object.keys(globals)) delete globalThis[name];
	}
}
const missing = () => json(400, { error: "cookies_missing" });
// inTurn answers with each of the answers in turn, and then with the last one.
const inTurn = (...answers) => () => (answers.length > 1 ? answers.shift() : answers[0])();

test("a page of another origin sends the cookies along, and nothing else to others", () => elsewhere(async () => {
	expired();
	server["/auth/session"] = () => alive();
	server["/auth/sessions"] = () => json(200, { sessions: [] });
	server["/auth/logout"] = () => json(200, {});
	server["/auth/step-up"] = () => json(200, {});
	const tab = open();
	await tab.info();
	await tab.refresh();
	await tab.fetch(`${origin}/api`, { method: "POST", body: "hello" });
	await tab.fetch(new Request(`${origin}/api`, { method: "POST", body: "hello" }));
	await tab.stepUp(`${origin}/auth/step-up`, { method: "POST" });
	await tab.devices();
	await tab.logout();
	assert.deepEqual([...new Set(kept.map((request) => request.credentials))], ["include"]);
	assert.ok(kept.length >= 7);
	kept = [];
	await tab.fetch(`${origin}/api`, { credentials: "omit" });
	await tab.fetch(`https://app.shop.example/api`);
	await tab.fetch(`https://cdn.example/api`);
	assert.deepEqual(kept.map((request) => request.credentials), ["omit", "same-origin", "same-origin"]);
	assert.equal(count("POST /auth/token"), 1);
}));

test("a page of the origin itself sends cookies as ever", async () => {
	server["/auth/session"] = () => alive();
	const tab = await elsewhere(() => open(), origin);
	await tab.info();
	await tab.fetch(new Request(`${origin}/auth/session`));
	assert.deepEqual(kept.map((request) => request.credentials), ["same-origin", "same-origin"]);
});

test("where there can be no session, there is no Session", async () => {
	for (const [page, secure] of [["null", true], ["http://app.shop.example", false]]) {
		await elsewhere(() => assert.throws(open, { name: "TypeError", message: new RegExp(`${page} can have no session`) }), page, secure);
	}
	await elsewhere(open, "http://localhost:2");
});

test("pages of two origins do not hear each other's news of two servers", async () => {
	const [own, other] = [await elsewhere(open, origin), await elsewhere(open)];
	server["/auth/logout"] = () => json(200, {});
	await other.logout();
	await settle();
	assert.deepEqual(own.told, []);
});

test("that no cookie is sent is no end", () => elsewhere(async () => {
	server["/auth/session"] = inTurn(() => alive(), () => json(200, null));
	server["/auth/token"] = missing;
	server["/auth/logout"] = missing;
	server["/api"] = () => json(401, {}, { "WWW-Authenticate": "Bearer" });
	const [tab, other] = [open(), open()];
	await tab.info();
	const failed = (err) => err instanceof CookiesError && err instanceof UnavailableError && !err.transient && /no cookies to http:\/\/localhost:1/.test(err.message);
	for (const call of [() => tab.info(), () => tab.refresh(), () => tab.fetch(`${origin}/api`), () => tab.logout()]) {
		sent = [];
		await assert.rejects(call, failed);
		assert.equal(sent.filter((s) => /^POST.*(token|logout)/.test(s)).length, 2, sent.join());
	}
	assert.deepEqual([tab.events, other.events], [["update"], ["update"]]);
}));

test("cookies that are gone although cookies come are an end", async () => {
	for (const answers of [[missing, over], [over, missing], [over, over]]) {
		await elsewhere(async () => {
			server["/auth/session"] = () => alive();
			server["/auth/token"] = inTurn(...answers);
			const tab = open();
			await tab.info();
			assert.equal(await tab.refresh(), null);
			assert.deepEqual(tab.events, ["update", "end ended"]);
			assert.equal(count("POST /auth/token"), 2);
		});
		sent = [];
		number++;
	}
});

test("cookies that are found at the second attempt are good", () => elsewhere(async () => {
	server["/auth/session"] = () => alive();
	server["/auth/token"] = inTurn(missing, () => alive());
	const tab = open();
	assert.equal((await tab.refresh()).session_id, "s1");
	assert.deepEqual(tab.events, ["update"]);
}));

test("an outage at the second attempt is an outage", () => elsewhere(async () => {
	server["/auth/session"] = () => alive();
	server["/auth/token"] = inTurn(missing, () => json(404, {}));
	const tab = open();
	await tab.info();
	await assert.rejects(tab.refresh(), (err) => err instanceof UnavailableError && !(err instanceof CookiesError) && err.status === 404);
	assert.deepEqual(tab.events, ["update"]);
}));

test("a login whose cookies the browser has not kept fails", () => elsewhere(async () => {
	for (const session of [() => json(200, null), missing]) { // blocked; another site
		server["/auth/session"] = session;
		server["/auth/token"] = missing;
		const tab = open();
		await assert.rejects(tab.login(async () => json(200, {})), CookiesError);
		assert.deepEqual(tab.events, []);
	}
}));

test("a login that is not over yet, or whose news do not come, has not failed", () => elsewhere(async () => {
	server["/auth/session"] = () => json(200, null);
	server["/auth/token"] = inTurn(missing, over);
	const tab = open();
	assert.equal((await tab.login(async () => json(200, { next: "code" }))).status, 200);
	assert.deepEqual(tab.events, []);
	server["/auth/token"] = inTurn(missing, () => json(404, {}));
	assert.equal((await tab.login(async () => json(200, {}))).status, 200);
	sent = [];
	assert.equal((await tab.login(async () => json(403, {}))).status, 403);
	assert.deepEqual(sent, []);
	// From its own origin, nothing is asked beyond info.
	server["/auth/token"] = over;
	assert.equal((await (await elsewhere(open, origin)).login(async () => json(200, {}))).status, 200);
	assert.deepEqual(sent, ["GET /auth/session"]);
}));

test("a logout without a cookie asks whether any come", () => elsewhere(async () => {
	server["/auth/session"] = () => alive();
	server["/auth/logout"] = inTurn(missing, () => json(200, {}));
	const tab = open();
	await tab.info();
	await tab.logout();
	assert.equal(count("POST /auth/logout"), 2);
	assert.deepEqual(tab.events, ["update", "end logout"]);
}));

test("another site is told to a page that only asks", () => elsewhere(async () => {
	server["/auth/session"] = missing;
	const tab = open();
	await assert.rejects(tab.info(), (err) => err instanceof CookiesError && err.status === 400);
	assert.deepEqual(sent, ["GET /auth/session"]);
	assert.deepEqual(tab.events, []);
}));

test("the types name what there is", async () => {
	const types = readFileSync(new URL("../../sessionhttp/session.d.ts", import.meta.url), "utf8");
	const declared = [...types.matchAll(/^export (?:class|const) (\w+)/gm)].map((match) => match[1]);
	assert.deepEqual(declared.sort(), Object.keys(script).sort());
	const body = /^export class Session extends EventTarget \{$(.*?)^\}$/ms.exec(types)[1];
	const members = new Set([...body.matchAll(/^\t(?:readonly )?(\w+)\W/gm)].map((match) => match[1]));
	const inherited = ["addEventListener", "removeEventListener"];
	const own = [...Object.getOwnPropertyNames(Session.prototype), ...Object.getOwnPropertyNames(new Session(`${origin}/${number}/`))];
	assert.deepEqual([...members].sort(), [...new Set([...own, ...inherited])].sort());
	const error = /^export class UnavailableError extends Error \{$(.*?)^\}$/ms.exec(types)[1];
	for (const [, name, type] of error.matchAll(/^\treadonly (\w+): (\w+)/gm)) assert.equal(typeof new UnavailableError()[name], type);
});

// What the server says to a script that refreshes where only the browser can. Its cookie is then gone, and the browser refreshes
// before the next request.
const leftToBrowser = () => json(400, { error: "invalid_dpop_proof" });
const bound = (more) => alive({ bound: true, ...more });

test("where the browser refreshes by itself, a refresh asks for the session", async () => {
	expired();
	const refresh = server["/auth/token"];
	server["/auth/token"] = leftToBrowser;
	server["/auth/session"] = (request) => {
		assert.equal(request.cache, "no-store");
		return refresh(); // as the browser does before
	};
	const tab = open();
	assert.equal((await tab.fetch(`${origin}/api`)).status, 200);
	assert.deepEqual(sent, ["GET /api", "POST /auth/token", "GET /auth/session", "GET /api"]);
	assert.deepEqual(tab.events, ["update"]);
});

test("a browser that has lost its key is logged out, after it was asked twice", async () => {
	server["/api"] = server["/auth/session"] = refused;
	server["/auth/token"] = leftToBrowser;
	const tab = open();
	server["/auth/session"] = bound;
	await tab.info();
	server["/auth/session"] = refused;
	assert.equal((await tab.fetch(`${origin}/api`)).status, 401);
	assert.equal(count("POST /auth/token"), 2);
	assert.deepEqual(tab.events, ["update", "end ended"]);
});

test("a browser that cannot refresh logs nobody out", async () => {
	useFakeTime();
	server["/api"] = refused;
	server["/auth/token"] = leftToBrowser;
	for (const answer of [
		() => busy(1),
		() => Promise.reject(new TypeError("no network")),
		() => new Response("<h1>Pay here</h1>", { headers: { "Content-Type": "text/html" } }),
		() => new Response("", { status: 200 }),
		() => new Response("Basic", { status: 401, headers: { "WWW-Authenticate": "Basic" } }),
		() => bound({ expires_in: 1 }), // the browser has gone on without
	]) {
		const tab = open();
		server["/auth/session"] = bound;
		await tab.info();
		server["/auth/session"] = answer;
		const call = tab.fetch(`${origin}/api`).catch((err) => err.name);
		await pass(15_000);
		assert.equal(await call, "UnavailableError", String(answer));
		assert.deepEqual(tab.events, ["update"]);
		number++;
	}
	server["/auth/session"] = () => busy(30);
	const err = await open().refresh().catch((err) => err);
	assert.deepEqual([err.status, err.retryAfter], [503, 30_000]);
});

test("a page asks whether the browser has refreshed before it does anything else", async () => {
	useFakeTime();
	server["/api"] = () => new Response("");
	server["/auth/session"] = bound;
	const tab = open();
	await tab.info();
	await pass(899_000);
	await tab.fetch(`${origin}/api`);
	assert.deepEqual(sent, ["GET /auth/session", "GET /auth/session", "GET /api"]);
	assert.equal((await tab.info()).expires_at - Date.now(), 900_000);

	// The browser saw no reason: its cookie is there, and the token is about to run out, or is no good.
	for (const stale of [() => bound({ expires_in: 1 }), refused]) {
		await pass(899_000);
		sent = [];
		let cleared = false;
		server["/auth/session"] = () => (cleared ? bound() : stale());
		server["/auth/token"] = () => {
			cleared = true;
			return leftToBrowser();
		};
		await tab.fetch(`${origin}/api`);
		assert.deepEqual(sent, ["GET /auth/session", "POST /auth/token", "GET /auth/session", "GET /api"]);
	}
	assert.equal(tab.events.includes("end ended"), false);
});

test("a refresh that the page asks for is one, also where the browser refreshes by itself", async () => {
	server["/auth/session"] = bound;
	server["/auth/token"] = leftToBrowser;
	const tab = open();
	await tab.info();
	sent = [];
	assert.equal((await tab.refresh()).bound, true);
	assert.deepEqual(sent, ["POST /auth/token", "GET /auth/session"]);
});

test("while the browser refreshes, nothing else is tried", async () => {
	useFakeTime();
	server["/auth/token"] = leftToBrowser;
	for (const [wait, want] of [[19_000, "alice"], [40_000, "UnavailableError"]]) {
		const tab = open();
		server["/auth/session"] = bound;
		await tab.info();
		sent = [];
		server["/auth/session"] = () => new Promise((resolve) => setTimeout(() => resolve(bound()), wait));
		const call = tab.refresh().then((info) => info.subject, (err) => err.name);
		await pass(wait + 1000);
		assert.equal(await call, want);
		assert.deepEqual(sent, ["POST /auth/token", "GET /auth/session"]);
		number++;
	}
});
