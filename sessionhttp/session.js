// The browser's side of a session whose tokens are in cookies that no script can read. An ES module without
// dependencies, served beside the endpoints that it calls (token, logout and session):
//
//     import { session } from "/auth/session.js";
//
//     session.addEventListener("end", (e) => showLogin(e.detail.reason));
//     const who = await session.info();                // null if nobody is logged in
//     const notes = await session.fetch("/api/notes"); // as fetch, but that it refreshes
//
// Methods
//
//     fetch(input, init)  As fetch. When the answer is 401, or would be because the access token has run out, it
//                         refreshes and sends the request again: once, or twice if the first time it was another tab
//                         that had refreshed, and that did not help. A body that is a ReadableStream cannot be sent
//                         again: then the caller gets the 401, and may. Requests to other origins go as they are.
//     info()              Who is logged in, and until when; null if nobody is.
//     refresh()           Refreshes now, and returns what info does.
//     login(send)         Calls send, which makes the host's login request and returns its response, while no tab
//                         refreshes, so that no late answer about an old session undoes it. Then it calls info, but
//                         does not fail if that does. The others wait for 30 seconds at most; this tab's fetch does
//                         not refresh meanwhile, but returns the 401. Do not call refresh or logout in send.
//     logout()            Ends the session and clears the cookies.
//
// An info is {subject, session_id, scope, expires_at, refresh_expires_at, session_ends_at}: when the access token has
// to be refreshed, when the session ends unless it is, and when it ends whatever happens (if ever), in milliseconds of
// this device's clock, as Date.now() has them.
//
// Events, each in every tab of the origin
//
//     update   There is news of the session: a login, a refresh. detail is the info.
//     warning  The session is about to end. detail is {ends_at, extendable}; if it is extendable, refresh() helps.
//              session.warnBefore says how many milliseconds before: five minutes, unless it is set.
//     end      Nobody is logged in any more; once. detail.reason is "logout"; "ended" if the server says that the
//              session is over; or "none" if this page never knew of one.
//
// What ends a login
//
// Only the server's verdict does: 400 and invalid_grant, twice, for a login may have changed the cookies while the first
// request was under way. Whatever else goes wrong with a refresh (no network, no answer in time, 503, another 5xx) is
// tried again with the same cookie for some seconds, while the server still takes a refresh whose answer got lost for
// the same one. Then the call rejects with an UnavailableError and everybody is as logged in as before. The caller
// tries again later.
//
// One refresh serves all tabs, by navigator.locks and a BroadcastChannel. Where these are missing, or a tab that the
// browser has frozen keeps the lock for 45 seconds, tabs refresh at the same time, which the server's grace period makes
// harmless. Nothing is kept in any storage.

const second = 1000;
const patience = 8 * second; // for the last attempt to begin: the grace period, 10 s by default, with room to spare
const slow = 4 * second; // without an answer, so that a connection may be dead
const margin = 2 * second; // of the access token's life that is not used
const longestLogin = 30 * second; // that others wait for
const longestTurn = 45 * second; // of other tabs', that one waits for
const settling = 50; // for a message to reach the other tabs before the lock does

const sleep = (milliseconds, value) => new Promise((resolve) => setTimeout(resolve, milliseconds, value));

/** What calls reject with if they could not tell whether the login still is good. It may be: try again later. */
export class UnavailableError extends Error {
	name = "UnavailableError";
	transient = true; // whether trying again at once may help
	retryAfter = 0; // in milliseconds, if the server says
	status = 0; // what the server answered, if it did
}

/** The session of the endpoints beside a URL. Pages use the one that is exported as session. */
export class Session extends EventTarget {
	/** How long before the session's end there is a warning, in milliseconds. */
	warnBefore = 300 * second;

	#base;
	#name; // of the lock and the channel
	#locks;
	#spare = ownLocks();
	#channel;

	#info; // undefined: not known yet; null: nobody is logged in
	#changes = 0; // counts logins and ends
	#changed = 0; // when the last one was
	#turn = 0; // counts refreshes, logins and logouts in all tabs
	#failure; // the error of the last turn, if it came to nothing
	#recovering; // the refresh that this tab's callers wait for
	#loggingIn = false; // whether this tab has the lock for a login, which must not wait for a refresh
	#attempts; // aborts the requests that are under way, also those of refreshes that were given up
	#warned = 0; // which end there was a warning of
	#timer;

	constructor(url) {
		super();
		this.#base = new URL(url);
		this.#name = "tokensession " + new URL(".", this.#base).pathname;
		this.#locks = globalThis.navigator?.locks ?? this.#spare;
		this.fetch = this.fetch.bind(this);
		try {
			this.#channel = new BroadcastChannel(this.#name);
			this.#channel.onmessage = (message) => this.#hear(message.data);
		} catch {} // an old browser has none, and one that is told to store nothing for a site may deny it
		// Timers stand still while a device sleeps, and a page that comes out of the back-forward cache has heard nothing.
		globalThis.document?.addEventListener("visibilitychange", () => this.#watch());
		globalThis.addEventListener?.("pageshow", (e) => e.persisted && this.#info && this.info().catch(() => {}));
	}

	async fetch(input, init) {
		let request = new Request(input, init);
		if (new URL(request.url).origin !== this.#base.origin) return fetch(request);
		const replayable = !(init?.body instanceof ReadableStream);
		let spare = 2; // the second one is for when it was another tab that refreshed, and that did not help
		if (this.#info && !this.#loggingIn && Date.now() > this.#info.expires_at - margin) {
			await unlessAborted(request.signal, this.#recover(this.#turn)).catch((err) => {
				if (request.signal.aborted || Date.now() > (this.#info?.expires_at ?? 0)) throw err;
			});
			if (this.#info === null) spare = 0;
		}
		for (;;) {
			const turn = this.#turn;
			const again = replayable && spare > 0 ? request.clone() : null;
			const response = await fetch(request);
			if (response.status !== 401 || spare === 0 || this.#loggingIn) return response;
			const here = await unlessAborted(request.signal, this.#recover(turn));
			if (this.#info === null || !again) return response;
			response.body?.cancel().catch(() => {});
			request = again;
			spare = here ? 0 : spare - 1;
		}
	}

	async info() {
		const asked = Math.max(Date.now(), this.#changed); // after what this tab has heard of, though it be the same millisecond
		const changes = this.#changes;
		const response = await this.fetch(this.#url("session"), { cache: "no-store" }).catch((err) => {
			throw err instanceof UnavailableError ? err : unavailable(null, err);
		});
		const old = this.#changes !== changes; // the answer may be of before
		if (this.#info === null && (old || response.status === 401)) return null;
		if (old) return this.info();
		const body = await response.json().catch(() => null);
		if (!response.ok || !isInfo(body)) throw unavailable(response);
		const news = this.#info?.session_id !== body.session_id;
		const message = { kind: "seen", info: dated(body) };
		if (news) this.#channel?.postMessage({ ...message, asked });
		this.#hear(message);
		return this.#info;
	}

	async refresh() {
		await this.#alone(() => this.#refresh());
		return this.#info;
	}

	async login(send) {
		let sending;
		await this.#alone(async () => {
			this.#abandon(); // before there are cookies that a late answer could replace
			this.#loggingIn = true;
			sending = (async () => {
				const response = await send();
				if (response.ok) this.#tell({ kind: "login" });
				return response;
			})();
			await Promise.race([sending, sleep(longestLogin)]).finally(() => (this.#loggingIn = false));
		});
		const response = await sending;
		if (response.ok) await this.info().catch(() => {}); // the login has worked in any case
		return response;
	}

	async logout() {
		await this.#alone(async () => {
			await this.#persist("logout", (body) => body !== null);
			this.#tell({ kind: "ended", reason: "logout" });
		});
	}

	// Refreshes, unless there has been a turn since the one given. It resolves to whether it was this tab that did.
	#recover(turn) {
		this.#recovering ??= this.#alone(async () => {
			if (this.#turn === turn) {
				await this.#refresh();
				return true;
			}
			if (this.#failure) throw unavailable(null, this.#failure);
			return false;
		}).finally(() => (this.#recovering = undefined));
		return this.#recovering;
	}

	async #refresh() {
		let body;
		try {
			body = await this.#persist("token", isInfo);
			// The verdict may be about a session that a login without this script has replaced meanwhile: ask with its cookie.
			body ??= await this.#persist("token", isInfo);
		} catch (err) {
			this.#tell({ kind: "failed", failure: err.message });
			throw err;
		}
		this.#tell(body ? { kind: "refreshed", info: dated(body) } : { kind: "ended", reason: "ended" });
	}

	// Runs work while no other tab runs any. The lock is kept for a moment longer, in which the others hear the news. It
	// does without where the lock is denied, or kept for too long: a tab that is frozen does not give it up.
	#alone(work) {
		return new Promise((resolve, reject) => {
			const giveUp = new AbortController();
			const timer = setTimeout(() => giveUp.abort(), longestTurn);
			let begun = false;
			const held = async () => {
				clearTimeout(timer);
				if (begun) return;
				begun = true;
				try {
					resolve(await work());
				} catch (err) {
					reject(err);
				}
				await sleep(settling);
			};
			const without = () => this.#spare.request(this.#name, {}, held);
			this.#locks.request(this.#name, { signal: giveUp.signal }, held).catch(without);
		});
	}

	// Sends a request until there is an answer that settles the matter: a body that is good, or null for the verdict.
	// One without an answer is not given up when the next one is sent, for an answer that is late still brings cookies.
	async #persist(endpoint, good) {
		const last = Date.now() + patience;
		let inDoubt = false; // an attempt may have been applied
		let settle;
		const settled = new Promise((resolve) => (settle = resolve));
		for (let pause = 250; ; pause *= 2) {
			const newest = this.#post(endpoint, good).then((body) => (settle({ body }), settled), (err) => ({ err }));
			let answer = await Promise.race([settled, newest, sleep(slow, { err: unavailable() })]);
			const { err } = answer;
			if (err) {
				inDoubt ||= !err.notDone;
				const left = last - Date.now();
				let wait = Math.max(pause * (0.5 + Math.random()), err.retryAfter);
				if (inDoubt && left > 0) wait = Math.min(wait, left); // later, the token may count as stolen
				if (!err.transient || wait > left) throw err;
				answer = await Promise.race([settled, sleep(wait)]);
			}
			if (answer) {
				this.#abandon();
				return answer.body;
			}
		}
	}

	// Drops the requests that are under way: what they would bring is of before something that has happened since.
	#abandon() {
		this.#attempts?.abort();
		this.#attempts = undefined;
	}

	// With keepalive, the cookies arrive even if the page goes away before the answer.
	async #post(endpoint, good) {
		const { signal } = (this.#attempts ??= new AbortController());
		let response, body;
		try {
			response = await fetch(this.#url(endpoint), {
				method: "POST", credentials: "same-origin", cache: "no-store", redirect: "error", keepalive: true, signal,
			});
			body = await response.json().catch(() => null);
		} catch (err) {
			throw unavailable(null, err);
		}
		if (response.ok && good(body)) return body;
		if (response.status === 400 && body?.error === "invalid_grant") return null;
		const err = unavailable(response);
		// Any other 503 is a proxy's: the server behind it may have done what was asked for, and its answer got lost.
		err.notDone = response.status === 429 || (response.status === 503 && body?.error === "temporarily_unavailable");
		throw err;
	}

	#url(endpoint) {
		return new URL(endpoint, this.#base).href;
	}

	#tell(message) {
		message.at = Date.now() + 1; // others may hear it later; what was asked in this very millisecond is of before
		this.#channel?.postMessage(message);
		this.#hear(message);
	}

	#hear({ kind, at, info, asked, reason, failure }) {
		if (asked < this.#changed) return; // it was so
		if (kind !== "seen") {
			this.#turn++;
			this.#failure = failure;
		}
		if (failure) return;
		if (kind === "login" || kind === "ended") {
			this.#abandon();
			this.#changes++;
			this.#changed = at;
		}
		if (info) {
			this.#info = info;
			this.#raise("update", info);
		} else if (kind === "ended" && this.#info !== null) {
			if (this.#info === undefined && reason === "ended") reason = "none";
			this.#info = null;
			this.#raise("end", { reason });
		} else if (kind === "login") {
			this.#info ??= undefined; // whoever it is, not nobody
		}
		this.#watch();
	}

	#raise(type, detail) {
		this.dispatchEvent(new CustomEvent(type, { detail }));
	}

	// Warns before the session's end, and asks the server when that should have come: only it knows.
	#watch() {
		clearTimeout(this.#timer);
		if (!this.#info) return;
		const { refresh_expires_at: idle, session_ends_at: last = Infinity } = this.#info;
		const ends = Math.min(idle, last);
		const now = Date.now();
		let next = ends - this.warnBefore;
		if (now >= next) {
			next = ends + second;
			if (now < ends && ends - this.#warned > 2 * second) {
				this.#warned = ends;
				this.#raise("warning", { ends_at: ends, extendable: idle < last });
			}
		}
		if (now >= next) {
			next = now + 60 * second;
			this.#recover(this.#turn).catch(() => {});
		}
		this.#timer = setTimeout(() => this.#watch(), Math.min(next - now, 3600 * second));
	}
}

const isInfo = (body) => typeof body?.session_id === "string";

// Turns what the server says in seconds from now into times.
function dated({ expires_in, refresh_expires_in, session_ends_in, ...info }) {
	const at = (seconds) => Date.now() + seconds * second;
	info.expires_at = at(expires_in);
	info.refresh_expires_at = at(refresh_expires_in);
	if (session_ends_in !== undefined) info.session_ends_at = at(session_ends_in);
	return info;
}

function unavailable(response, cause) {
	const err = new UnavailableError(response ? `the server answered ${response.status}` : "the server did not answer", { cause });
	if (response) {
		err.status = response.status;
		err.transient = response.ok || response.status >= 500 || response.status === 408 || response.status === 429;
		err.retryAfter = (Number(response.headers.get("Retry-After")) || 0) * second;
	}
	return err;
}

function unlessAborted(signal, promise) {
	return new Promise((resolve, reject) => {
		if (signal.aborted) reject(signal.reason);
		signal.addEventListener("abort", () => reject(signal.reason), { once: true });
		promise.then(resolve, reject);
	});
}

// Locks within this tab.
function ownLocks() {
	let last = Promise.resolve();
	return { request: (_name, _options, work) => (last = last.then(work, work)) };
}

export const session = new Session(import.meta.url);
