// The browser's side of a session whose tokens are in cookies that no script can read. An ES module
// without dependencies, served beside the endpoints that it calls (token, logout and session):
//
//     import { session } from "/auth/session.js";
//
//     session.addEventListener("end", () => location.assign("/login"));
//     const who = await session.info();                // null if nobody is logged in
//     const notes = await session.fetch("/api/notes"); // as fetch, but that it refreshes
//
// Methods
//
//     fetch(input, init)  As fetch. When the answer is 401, or would be because the access token
//                         has run out, it refreshes and sends the request again: once, or twice if
//                         the first time it was another tab that had refreshed, and that did not
//                         help. A body that is a ReadableStream cannot be sent again: then the
//                         caller gets the 401, and may. Requests to other origins go as they are.
//     info()              Who is logged in, and until when; null if nobody is.
//     refresh()           Refreshes now, and returns what info does.
//     login(send)         Calls send, which makes the host's login request and returns its
//                         response, while no tab refreshes. It cancels what earlier refreshes have
//                         left, so that no late answer about an old session undoes the login; but
//                         for one that a page has left which went away while it was refreshing.
//                         Then it calls info, but does not fail if that does. The others wait for
//                         30 seconds at most; this tab's fetch does not refresh meanwhile, but
//                         returns the 401. Do not call refresh or logout in send.
//     logout()            Ends the session and clears the cookies.
//     stepUp(input, init) Sends the host's step-up request, which proves once more who the user is,
//                         and returns its response. It is as fetch, but no tab refreshes meanwhile,
//                         because the answer may bring new cookies. See "Step-up".
//
// With Config.Devices, each of them null if nobody is logged in:
//
//     devices()           The user's sessions, newest login first, as {id, current, created_at,
//                         last_seen, actor, attributes}. The times are as those of an info, but of
//                         the server's clock. last_seen, actor and attributes may be missing.
//     revoke(id)          Ends one of them. It is true, or false if the user has no such session.
//                         For the current one it is a logout.
//     revokeOthers()      Ends all but the current one, and returns how many.
//
// An info is {subject, session_id, scope, expires_at, refresh_expires_at, session_ends_at, bound}:
// when the access token has to be refreshed, when the session ends unless it is, and when it ends
// whatever happens (if ever), in milliseconds of this device's clock, as Date.now() has them; and
// true if the browser refreshes the session by itself.
//
// Events, each in every tab of the origin, but for stepup
//
//     update   There is news of the session: a login, a refresh. detail is the info.
//     warning  The session is about to end. detail is {ends_at, extendable}; if it is extendable,
//              refresh() helps. session.warnBefore says how many milliseconds before: five minutes,
//              unless it is set.
//     end      A login that this page knew of is over; once. detail.reason is "logout", or "ended"
//              if the server says so. A page that asks and learns that nobody is logged in has no
//              event, but the answer. There are two pages that may not have known: one that hears
//              of a logout in another tab, and one that comes back by the browser's Back and finds
//              nobody logged in.
//     stepup   The server asks this tab for a better or a more recent proof of who the user is. See
//              "Step-up".
//
// Whose request it is
//
// A request belongs to the session that this page knew of when it was made. If somebody else logs
// in in another tab before it is sent, or before it is sent again after a refresh, it is not sent
// as theirs: fetch rejects with a SessionChangedError, or returns the 401. What a page cannot know
// is compared by the server: each request names its session in the header Tokensession-Session. A
// page that was made for one user and sends in the background what that user wrote calls info()
// first.
//
// What ends a login
//
// Only the server's verdict does: 400 and invalid_grant, twice, for a login may have changed the
// cookies while the first request was under way. Whatever else goes wrong with a refresh (no
// network, no answer in time, 503, another 5xx) is tried again with the same cookie for some
// seconds, while the server still takes a refresh whose answer got lost for the same one. Then the
// call rejects with an UnavailableError and everybody is as logged in as before. The caller tries
// again later. An answer that comes after all still brings the cookies, and an update.
//
// A 401 that a refresh does not cure is handed on for 30 seconds, without another refresh.
//
// Step-up
//
// A 401 with the error insufficient_user_authentication (RFC 9470) asks for the password or the
// passkey once more, and no refresh cures it. It raises the event stepup, whose detail is {max_age,
// acr_values, waitUntil}: how many seconds ago the proof may have been (undefined if any time will
// do), and an array of what the proof has to be of. The page opens its dialog, and that calls
// stepUp:
//
//     session.addEventListener("stepup", (e) => e.detail.waitUntil(askForPassword(e.detail)));
//     ...
//     const response = await session.stepUp("/auth/step-up", { method: "POST", body });
//
// The request waits until the promise given to waitUntil is settled. If a stepUp has worked by
// then, the request goes again, and its caller never sees the 401. Else the caller gets it, as
// without a listener. While one dialog is open, other requests wait for the same, and there is no
// other event.
//
// Bound to the device
//
// With Config.DeviceBound, a browser that can refreshes by itself, before the requests that need it,
// and proves a key that no script has. The server takes no other refresh then: it takes a cookie
// away, whose absence makes the browser refresh before the next request. So to refresh is to ask for
// the session. If the browser could not, as while it cannot reach the server, nobody can tell, and
// if it has lost the key, the login is over.
//
// Pages of another origin
//
// A page of https://app.shop.example can import the module from https://api.shop.example, if
// Config's Origins has the first one. Then fetch is for requests to the second one, and sends the
// cookies of that. A login that the page sends by itself needs credentials: "include". No browser
// sends the cookies to another site, and some send none to another origin. A login is not over only
// because no cookie was sent: calls reject with a CookiesError then, and there is no end. A page
// that can have no such session, because it is in a sandbox or came over plain HTTP, gets a
// TypeError from the constructor, and so from the import.
//
// One refresh serves all tabs, by navigator.locks and a BroadcastChannel. Where these are missing,
// or a tab that the browser has frozen keeps the lock for 45 seconds, tabs refresh at the same
// time, which the server's grace period makes harmless, unless a request is stuck for longer than
// that. Nothing is kept in any storage.

const second = 1000;
// For the last attempt to begin: the grace period, which is 10 s by default, with room to spare.
const patience = 8 * second;
// For a request that waits for the browser's own refresh, which Chromium gives up after 20 s.
const browserPatience = 25 * second;
// Without an answer, or without the rest of one, so that a connection may be dead.
const slow = 4 * second;
// An attempt that begins so shortly before another's answer may have the cookie of that.
const overlap = second;
const margin = 2 * second; // of the access token's life that is not used
const longestLogin = 30 * second; // that others wait for
const longestTurn = 45 * second; // of other tabs', that one waits for
const settling = 50; // for a message to reach the other tabs before the lock does
const vainPause = 30 * second; // after a refresh that has not helped, as in Go's sessionclient
const sessionHeader = "Tokensession-Session"; // names the session that a request was made in

const posting = {
	method: "POST",
	cache: "no-store",
	redirect: "error",
};

const sleep = (milliseconds, value) =>
	new Promise((resolve) => setTimeout(resolve, milliseconds, value));

/**
 * What calls reject with if they could not tell whether the login still is good. It may be: try
 * again later.
 */
export class UnavailableError extends Error {
	name = "UnavailableError";
	transient = true; // whether trying again at once may help
	retryAfter = 0; // in milliseconds, if the server says
	status = 0; // what the server answered, if it did
}

/**
 * What calls of a page of another origin reject with if its browser sends no cookies there, or has
 * not kept those of a login. The login may be good for pages of the origin itself.
 */
export class CookiesError extends UnavailableError {
	name = "CookiesError";
}

/** What calls reject with if somebody else is logged in now, and nothing was sent as theirs. */
export class SessionChangedError extends Error {
	name = "SessionChangedError";
}

/** The session of the endpoints beside a URL. Pages use the one that is exported as session. */
export class Session extends EventTarget {
	/** How long before the session's end there is a warning, in milliseconds. */
	warnBefore = 300 * second;

	#base;
	#credentials; // which cookies the requests to it may have
	#name; // of the lock and the channel
	#locks;
	#spare = ownLocks();
	#channel;

	#info; // undefined: not known yet; null: nobody is logged in
	#id; // of the session, where an answer has told no more than that
	#knew = false; // whether there was a session, of which no end was raised yet
	#vain = new Map(); // by kind of request: for how long a refresh has not helped
	#changes = 0; // counts logins and ends
	#changed = 0; // when the last one was
	#turn = 0; // counts refreshes, logins and logouts in all tabs
	#failure; // the error of the last turn, if it came to nothing
	#recovering; // the refresh that this tab's callers wait for
	#loggingIn = false; // whether this tab has the lock for a login, which waits for no refresh
	#proofs = 0; // counts the step-ups in all tabs
	#asking; // the promise of the dialog that a stepup event has opened
	#stopAsking; // settles it, because the session has changed
	#calling; // the endpoint that this tab is at, to refresh or to log out
	#attempts = new Set(); // the requests to it that are under way, also those of calls given up
	#left = false; // whether the page has gone away, perhaps into the back-forward cache
	#warned = 0; // which end there was a warning of
	#timer;

	constructor(url) {
		super();
		const page = globalThis.location;
		this.#base = new URL(url, page?.href);
		this.#name = "tokensession " + new URL(".", this.#base).pathname;
		this.#credentials = "same-origin";
		if (page && page.origin !== this.#base.origin) {
			if (page.origin === "null" || globalThis.isSecureContext === false) {
				throw new TypeError(`A page of ${page.origin} can have no session at ${this.#base.origin}: ` +
					"it must be a page of its own over HTTPS, or on localhost, and not in a sandbox");
			}
			this.#credentials = "include";
			this.#name += " of " + this.#base.origin;
		}
		this.#locks = globalThis.navigator?.locks ?? this.#spare;
		this.fetch = this.fetch.bind(this);
		try {
			this.#channel = new BroadcastChannel(this.#name);
			this.#channel.onmessage = (message) => this.#hear(message.data);
		} catch {
			// An old browser has none, and one that is told to store nothing for a site may deny it.
		}
		// Timers stand still while a device sleeps, and a page that comes out of the back-forward
		// cache has heard nothing.
		globalThis.document?.addEventListener("visibilitychange", () => this.#watch());
		globalThis.addEventListener?.("pageshow", (e) => e.persisted && this.#return());
		globalThis.addEventListener?.("pagehide", () => this.#leave());
	}

	async fetch(input, init) {
		const request = this.#request(input, init);
		if (new URL(request.url).origin !== this.#base.origin) return fetch(request);
		const owner = this.#owner();
		this.#sign(request, owner);
		return this.#send(request, !(init?.body instanceof ReadableStream), owner);
	}

	// Makes a request, with the cookies of the endpoints' origin if it is one to there.
	#request(input, init) {
		const request = new Request(input, init);
		const theirs = new URL(request.url).origin !== this.#base.origin;
		if (theirs || request.credentials !== "same-origin") return request;
		return new Request(request, { credentials: this.#credentials });
	}

	// The session that a request belongs to which is made now, as far as this page knows.
	#owner() {
		const id = this.#info === undefined ? this.#id : (this.#info?.session_id ?? null);
		// It is asked when the answer to the request has raised a stepup event.
		return { id, changes: this.#changes, asked: false };
	}

	#sign(request, owner) {
		const id = this.#info?.session_id ?? owner?.id;
		if (owner && id) request.headers.set(sessionHeader, id);
	}

	// Sends a request, which is sent again after a refresh if it is replayable. The owner is the
	// session that it was made in; the question who is logged in has none.
	async #send(request, replayable, owner) {
		let spare = 2; // the second is for when another tab has refreshed, and that did not help
		const late = this.#info && Date.now() > this.#info.expires_at - margin;
		if (late && !this.#loggingIn && !request.signal.aborted) {
			await unlessAborted(request.signal, this.#recover(this.#turn)).catch((err) => {
				if (request.signal.aborted || Date.now() > (this.#info?.expires_at ?? 0)) throw err;
			});
			if (this.#info === null) spare = 0;
			else if (!this.#owns(owner)) throw sessionChanged();
		}
		const kind = owner ? "call" : "question";
		let refreshed = false;
		for (;;) {
			const [turn, changes, proofs] = [this.#turn, this.#changes, this.#proofs];
			const again = replayable ? request.clone() : null;
			const response = await fetch(request);
			if (response.status !== 401) {
				if (changes === this.#changes) this.#note(response);
				return response;
			}
			// The session of the token that has run out, for a page that has not heard of it.
			if (owner) owner.id ||= response.headers.get(sessionHeader) ?? owner.id;
			const challenge = challengeOf(response);
			const error = challenge?.error;
			if (refreshed && curable.has(error)) this.#tell({ kind: "vain", of: kind });
			if (this.#loggingIn || !this.#owns(owner)) return response;
			if (error === "insufficient_user_authentication" && owner) {
				await unlessAborted(request.signal, this.#ask(owner, challenge, proofs), response);
				if (this.#proofs === proofs || !again || !this.#owns(owner)) return response;
				discard(response);
				this.#sign(again, owner);
				return this.#send(again, replayable, owner);
			}
			if (spare === 0) return response;
			// There was a login without this script. Who is it?
			if (error === "session_changed") this.info().catch(() => {});
			if (!curable.has(error) || this.#vain.get(kind)?.() < vainPause) return response;
			const nobody = this.#info === null;
			const here = await unlessAborted(request.signal, this.#recover(turn), response);
			if (nobody && this.#info === null) this.#tell({ kind: "vain", of: kind });
			if (this.#info === null || !again || !this.#owns(owner)) return response;
			discard(response);
			request = again;
			this.#sign(request, owner);
			refreshed = here;
			spare = here ? 0 : spare - 1;
		}
	}

	// Has the page ask for a better proof of who the user is, and waits for its dialog. There is
	// nothing to ask if there has been a step-up since the request was sent. One request opens no
	// second dialog: if the step-up was not what the server wanted, the user would be asked again
	// and again.
	async #ask(owner, { max_age, acr_values = "" }, proofs) {
		if (this.#proofs !== proofs) return;
		if (!this.#asking) {
			if (owner.asked) return;
			owner.asked = true;
			let dialogs = [];
			const waitUntil = (dialog) => {
				if (!dialogs) throw new Error("waitUntil is called when the stepup event is over");
				dialogs.push(dialog);
			};
			this.#raise("stepup", {
				max_age: /^\d+$/.test(max_age) ? Number(max_age) : undefined,
				acr_values: acr_values.split(" ").filter(Boolean),
				waitUntil,
			});
			const opened = dialogs;
			dialogs = null;
			if (opened.length === 0) return;
			const asking = new Promise((resolve) => {
				this.#stopAsking = resolve;
				Promise.allSettled(opened).then(resolve);
			});
			this.#asking = asking.then(() => (this.#asking = undefined));
		}
		await this.#asking;
	}

	// An answer to one of this page's requests names the session that it was made in. That is news
	// for a page that has never asked, and for one that took nobody to be logged in.
	#note(response) {
		const id = response.headers.get(sessionHeader);
		if (!id || this.#info) return;
		if (this.#info === null) {
			this.info().catch(() => {});
			return;
		}
		this.#id = id;
		this.#knew = true;
	}

	// Whether a request may still be sent, as far as this page knows: nobody else has logged in
	// since it was made.
	#owns(owner) {
		if (!owner) return true;
		if (owner.changes !== this.#changes) return false;
		return !this.#info || owner.id === undefined || owner.id === this.#info.session_id;
	}

	async info() {
		const asked = this.#now();
		const changes = this.#changes;
		const question = this.#request(this.#url("session"), { cache: "no-store" });
		const response = await this.#send(question, true).catch((err) => {
			throw err instanceof UnavailableError ? err : unavailable(null, err);
		});
		const told = response.ok || response.status === 400;
		const said = told ? await response.json().catch(() => undefined) : undefined;
		if (lacksCookies(response, said)) throw this.#noCookies(response);
		const body = response.ok ? said : undefined;
		const old = this.#changes !== changes; // the answer may be of before
		if (this.#info === null && (old || response.status === 401)) return null;
		if (old) return this.info();
		if (body === null) return this.#nobody();
		if (!isInfo(body)) throw unavailable(response);
		const message = { kind: "seen", info: dated(body) };
		const known = this.#info?.session_id === body.session_id;
		const news = !known || message.info.expires_at > this.#info.expires_at + second;
		if (news) this.#channel?.postMessage({ ...message, asked });
		this.#hear(message);
		return this.#info;
	}

	// The server has got no cookie of ours. That answers a page that only asks. For a page that
	// knew of a login it is no verdict, so it asks for one.
	async #nobody() {
		if (!this.#knew) return (this.#info = null);
		await this.#recover(this.#turn);
		return this.#info === undefined ? this.info() : this.#info;
	}

	// The page has come back out of the back-forward cache. There it has heard nothing, and it
	// shows what it showed before, though it may be after a logout. So it asks until it gets an
	// answer.
	async #return() {
		this.#left = false;
		if (this.#info === undefined) this.#knew = true; // it may have
		let pause = second;
		while (this.#info !== null && !this.#left) {
			try {
				return await this.info();
			} catch {
				await sleep(pause);
				pause = Math.min(2 * pause, 60 * second);
			}
		}
	}

	async refresh() {
		await this.#alone(() => this.#refresh(true));
		return this.#info === undefined ? this.info() : this.#info;
	}

	async login(send) {
		let sending;
		await this.#alone(async () => {
			this.#supersede(); // before there are cookies that a late answer could replace
			this.#loggingIn = true;
			sending = (async () => {
				const response = await send();
				if (response.ok) this.#tell({ kind: "login" });
				return response;
			})();
			await Promise.race([sending, sleep(longestLogin)]).finally(() => (this.#loggingIn = false));
		});
		const response = await sending;
		if (!response.ok) return response;
		// The login has worked in any case, unless this browser has not kept its cookies.
		const who = await this.info().catch((err) => {
			if (err instanceof CookiesError) throw err;
		});
		if (who === null && this.#credentials === "include") {
			await this.#alone(() => this.#renew()).catch((err) => {
				if (err instanceof CookiesError) throw err;
			});
		}
		return response;
	}

	// The answer may bring new cookies. Then the ones of before are no good any more, as after a
	// refresh, and a late answer to a refresh must not bring them back. So it takes its turn as a
	// refresh does.
	async stepUp(input, init) {
		const request = this.#request(input, init);
		if (new URL(request.url).origin !== this.#base.origin) {
			throw new TypeError(`stepUp: ${request.url} is of another origin`);
		}
		const owner = this.#owner();
		let sending;
		await this.#alone(async () => {
			this.#supersede();
			sending = this.#prove(request, owner);
			await Promise.race([sending, sleep(longestLogin)]);
		});
		const response = await sending;
		// For the new times. If they do not come, the step-up has worked all the same.
		if (response.ok) await this.info().catch(() => {});
		return response;
	}

	// Sends a step-up request, and once more after a refresh if the access token has run out
	// meanwhile: dialogs take time.
	async #prove(request, owner) {
		for (let spare = 1; ; spare--) {
			if (!this.#owns(owner)) throw sessionChanged();
			this.#sign(request, owner);
			const again = request.clone();
			const asked = this.#now();
			const response = await fetch(request);
			if (response.ok) this.#tell({ kind: "proved", asked, at: Date.now() });
			if (spare === 0 || !curable.has(challengeOf(response)?.error)) return response;
			owner.id ||= response.headers.get(sessionHeader) ?? owner.id;
			await this.#refresh().catch((err) => {
				discard(response);
				throw err;
			});
			if (!this.#owns(owner)) return response; // it is over
			discard(response);
			request = again;
		}
	}

	async devices() {
		const good = ({ sessions }) => Array.isArray(sessions);
		const answer = await this.#own("sessions", { cache: "no-store" }, good);
		return answer?.sessions.map((device) => {
			const timed = { ...device, created_at: Date.parse(device.created_at) };
			if (device.last_seen) timed.last_seen = Date.parse(device.last_seen);
			return timed;
		}) ?? null;
	}

	async revoke(id) {
		if (typeof id !== "string" || !/^[\w-]+$/.test(id)) {
			throw new TypeError("revoke: not the id of a session: " + id);
		}
		const who = this.#info ?? (await this.info());
		if (!who) return null;
		if (id === who.session_id) return this.logout().then(() => true); // and all tabs are told
		const answer = await this.#own("sessions/" + id, { method: "DELETE" });
		return answer ? answer.error !== "not_found" : null;
	}

	async revokeOthers() {
		const good = ({ ended }) => Number.isInteger(ended);
		const answer = await this.#own("sessions/revoke-others", { method: "POST" }, good);
		return answer?.ended ?? null;
	}

	// Calls one of the endpoints of Config.Devices. It resolves to what was answered, or to null if
	// nobody is logged in. What is not a good answer is none of ours, and says nothing.
	async #own(endpoint, init, good = () => true) {
		const response = await this.fetch(this.#url(endpoint), init).catch((err) => {
			throw err instanceof TypeError ? unavailable(null, err) : err;
		});
		if (response.status === 401) {
			if (challengeOf(response)?.error === "session_changed") throw sessionChanged();
			if (this.#info === null) return null;
		}
		const body = parsed(await response.text().catch(() => ""));
		const lacking = response.status === 404 && body?.error === "not_found";
		const known = response.ok ? body && good(body) : lacking;
		if (!known) throw unavailable(response);
		return body;
	}

	async logout() {
		const id = this.#info?.session_id;
		const headers = id && { [sessionHeader]: id };
		const post = () => this.#persist("logout", (body) => body !== null, headers);
		const send = () => post().catch((err) => {
			if (!(err instanceof CookiesError)) throw err;
			return post(); // now with the cookie that shows whether there can be any
		});
		await this.#alone(async () => {
			try {
				await send();
			} catch (err) {
				if (err instanceof SessionChangedError) this.#info = undefined; // who is it now?
				if (err.status !== 401) throw err;
				// The server could not tell which session the cookies are of. With new ones it can.
				if (await this.#persist("token", isInfo)) await send();
			}
			this.#tell({ kind: "ended", reason: "logout" });
		});
	}

	// Refreshes, unless there has been a turn since the one given. It resolves to whether it was
	// this tab that did.
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

	async #refresh(forced) {
		try {
			if (!forced && this.#info?.bound && (await this.#renewed())) return;
			if (await this.#renew()) return;
		} catch (err) {
			this.#tell({ kind: "failed", failure: err.message });
			throw err;
		}
		this.#tell({ kind: "ended", reason: "ended" });
	}

	// Whether a browser that refreshes by itself has done so, or does now. If nobody can tell, there is
	// time to ask again, but not after the browser has tried for long.
	async #renewed() {
		const elapsed = stopwatch();
		return this.#askBrowser({ began: this.#now() }).catch((err) => {
			if (elapsed() > patience) throw err;
			return false;
		});
	}

	// Asks for new cookies, twice if need be. It resolves to whether there are any; false is the
	// verdict.
	//
	// The verdict may be about a session that a login without this script has replaced meanwhile. The
	// second request has its cookies. And if no cookie came along from another origin, the server sets
	// one, which comes with the second request if any does: then ours are gone. If the first answer
	// was the verdict, it has cleared them.
	async #renew() {
		let verdict = false;
		for (let spare = 1; ; spare--) {
			try {
				if (await this.#persist("token", isInfo)) return true;
				verdict = true;
			} catch (err) {
				const cookies = err instanceof CookiesError;
				if (!cookies || (spare === 0 && !verdict)) throw err;
			}
			if (spare === 0) return false;
		}
	}

	// Runs work while no other tab runs any. The lock is kept for a moment longer, in which the
	// others hear the news. It does without where the lock is denied, or kept for too long: a tab
	// that is frozen does not give it up.
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

	// Sends a request until an answer settles the matter. It resolves to whether that was done;
	// false is the verdict.
	//
	// The browser fixes a request's cookie when the request begins, however late that is delivered.
	// The attempt that the server applies first makes the new cookie. Another one with the old
	// cookie brings the same again, within the grace period and while the new one is not in use;
	// after that it counts as theft. So one that is stuck does no harm until another has been
	// applied; and it may be the one that was, and have the only answer. Therefore:
	//
	//   - None is cancelled for being slow, nor when the call gives up. Whichever answer comes
	//   first is news, then too.
	//   - The new cookie comes with an answer's headers. No attempt begins while the body is
	//     awaited. Then those that began before the headers came are cancelled, in all tabs; those
	//     that began after have the new cookie, and are not. One that began within a second before
	//     may have either, and gets some seconds more.
	//   - What a call that gave up has left is cancelled when the next call or a login begins, in
	//     any tab. A refresh does the same again, and after a login or a logout, the old session's
	//     cookies must not come.
	//   - The last one begins when the call is 8 seconds old, by a clock that nobody sets back.
	//     Later, the server may take the old cookie for a stolen one.
	//   - They are without keepalive, because Chromium does not cancel a request that has it.
	//
	// What remains: the answer to the one that was applied takes longer than the grace period, and
	// another is delivered meanwhile; or one is delivered although it was cancelled, for it had
	// left the browser.
	async #persist(endpoint, good, headers) {
		this.#supersede();
		const elapsed = stopwatch();
		let inDoubt = false; // an attempt may have been applied
		let settle;
		const settled = new Promise((resolve) => (settle = resolve));
		// Of the attempts whose headers have come.
		const bodies = () => Promise.all([...this.#attempts].map((attempt) => attempt.body));
		this.#calling = endpoint;
		try {
			for (let pause = 250; ; pause *= 2) {
				const newest = this.#post(endpoint, good, headers).then(
					(done) => (settle({ done }), settled),
					(err) => ({ err }),
				);
				const silence = sleep(slow).then(bodies).then(() => ({ err: unavailable() }));
				const { done, err } = await Promise.race([settled, newest, silence]);
				if (!err) return done;
				inDoubt ||= !err.notDone;
				const left = patience - elapsed();
				let wait = Math.max(pause * (0.5 + Math.random()), err.retryAfter);
				// Later, the token may count as stolen.
				if (inDoubt && left > 0) wait = Math.min(wait, left);
				if (!err.transient || wait > left) throw err;
				const pauseOver = sleep(wait).then(bodies).then(() => null);
				const answer = await Promise.race([settled, pauseOver]);
				if (answer) return answer.done;
				// The device has slept, or that body was no good.
				if (elapsed() > patience + second) throw err;
			}
		} finally {
			this.#calling = undefined;
		}
	}

	// Sends one attempt, and resolves as persist does.
	async #post(endpoint, good, headers) {
		const cancel = new AbortController();
		const attempt = { began: this.#now(), cancel, body: undefined };
		this.#attempts.add(attempt);
		let response, answered, text;
		try {
			const init = { ...this.#posting(), headers, signal: cancel.signal };
			response = await fetch(this.#url(endpoint), init);
			answered = Date.now();
			attempt.body = Promise.race([response.text(), sleep(slow)]).catch(() => {});
			text = await attempt.body;
			if (response.status === 400 && parsed(text)?.error === "invalid_dpop_proof") {
				const asking = this.#askBrowser(attempt);
				attempt.body = Promise.race([asking, sleep(browserPatience)]).catch(() => {});
				return await asking;
			}
		} catch (err) {
			if (err instanceof UnavailableError) throw err;
			throw unavailable(null, err);
		} finally {
			this.#attempts.delete(attempt);
			cancel.abort(); // a body that does not come would keep the connection
		}
		const body = parsed(text);
		// The cookies came with the headers, so that a body that is missing does no harm. That of a
		// network that wants to be paid is no JSON.
		const missing = text === undefined && /json/.test(response.headers.get("Content-Type"));
		if (response.ok && (missing || good(body))) {
			const info = missing ? undefined : dated(body);
			if (endpoint === "token") this.#refreshed(attempt, answered, info);
			return true;
		}
		if (response.status === 400 && body?.error === "invalid_grant") return false;
		if (lacksCookies(response, body)) throw this.#noCookies(response);
		if (challengeOf(response)?.error === "session_changed") throw sessionChanged();
		const err = unavailable(response);
		// Any other 503 is a proxy's: the server behind it may have done what was asked for, and
		// its answer got lost.
		const own = body?.error === "temporarily_unavailable";
		err.notDone = response.status === 429 || (response.status === 503 && own);
		throw err;
	}

	// Asks for the session, before which the browser refreshes by itself if it has to. It resolves as
	// persist does, and false may be for a token that has run out before the browser saw a reason to
	// refresh. Nothing is consumed by this request, so that an answer that gets lost leaves no doubt.
	async #askBrowser(attempt) {
		const init = { cache: "no-store", credentials: this.#credentials };
		if (attempt.cancel) init.signal = attempt.cancel.signal;
		let response, text;
		try {
			response = await fetch(this.#url("session"), init);
			text = await response.text();
		} catch (cause) {
			throw Object.assign(unavailable(null, cause), { notDone: true });
		}
		const body = parsed(text);
		const nobody = response.ok && text.trim() === "null";
		if (nobody || curable.has(challengeOf(response)?.error)) return false;
		if (lacksCookies(response, body)) throw this.#noCookies(response);
		const info = response.ok && isInfo(body) ? dated(body) : undefined;
		if (!info || info.expires_at < Date.now() + margin) {
			throw Object.assign(unavailable(response), { notDone: true });
		}
		this.#refreshed(attempt, Date.now(), info);
		return true;
	}

	// The time for what begins now. It is not before the last change that this tab has heard of, even
	// if it is the same millisecond.
	#now() {
		return Math.max(Date.now(), this.#changed);
	}

	#refreshed({ began }, answered, info) {
		this.#tell({ kind: "refreshed", info, asked: began, at: answered });
		if (!info) this.info().catch(() => {});
	}

	// Cancels the requests that began before a time.
	#cancel(time = Infinity) {
		for (const { began, cancel } of this.#attempts) if (began < time) cancel.abort();
	}

	// Cancels what earlier calls have left, in all tabs.
	#supersede() {
		this.#cancel();
		this.#channel?.postMessage({ kind: "begun" });
	}

	// The page goes away, and its requests with it. They may have been applied: another one, with
	// keepalive, brings the cookies. As nothing can cancel that one, there is none unless a call is
	// still waiting for them.
	#leave() {
		this.#left = true;
		const awaited = this.#calling && ![...this.#attempts].some((attempt) => attempt.body);
		this.#cancel();
		if (!awaited) return;
		fetch(this.#url(this.#calling), { ...this.#posting(), keepalive: true }).catch(() => {});
	}

	#posting() {
		return { ...posting, credentials: this.#credentials };
	}

	#noCookies({ status }) {
		const err = new CookiesError(`this browser sends no cookies to ${this.#base.origin} from here: ` +
			"it blocks them, or this page is of another site or in a frame of one");
		err.transient = false;
		err.status = status;
		return err;
	}

	#url(endpoint) {
		return new URL(endpoint, this.#base).href;
	}

	#tell(message) {
		// Others may hear it later. What was asked in this very millisecond is of before.
		message.at ??= Date.now() + 1;
		this.#channel?.postMessage(message);
		this.#hear(message);
	}

	#hear({ kind, at, info, asked, reason, failure, of }) {
		if (kind === "begun") {
			if (!this.#calling) this.#cancel();
			return;
		}
		if (kind === "vain") {
			this.#vain.set(of, stopwatch());
			return;
		}
		if (asked < this.#changed) return; // it was so
		if (kind !== "seen") {
			this.#turn++;
			this.#failure = failure;
		}
		if (failure) return;
		if (kind === "refreshed" || kind === "proved") {
			this.#cancel(at - overlap);
			setTimeout(() => this.#cancel(at), slow);
		}
		if (kind === "refreshed") this.#info = undefined; // if the news do not bring it
		if (kind === "proved") this.#proofs++;
		if (kind === "login" || kind === "ended") {
			this.#stopAsking?.();
			this.#cancel();
			this.#vain.clear();
			this.#id = undefined;
			this.#changes++;
			this.#changed = at;
		}
		if (info) {
			this.#info = info;
			this.#knew = true;
			this.#raise("update", info);
		} else if (kind === "ended") {
			const over = this.#knew || (reason === "logout" && this.#info !== null);
			this.#info = null;
			this.#knew = false;
			if (over) this.#raise("end", { reason });
		} else if (kind === "login") {
			this.#info = undefined; // whoever it is now
		}
		this.#watch();
	}

	#raise(type, detail) {
		this.dispatchEvent(new CustomEvent(type, { detail }));
	}

	// Warns before the session's end, and asks the server when that should have come: only it
	// knows.
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

// Returns a function that says how much time has passed since this call. The wall clock can be set
// back, so that time would seem not to pass, and the steady clock stands still on some devices
// while they sleep: whichever says more counts. Where the wall clock is set forward, that is too
// much, and a call gives up early, which harms nobody.
function stopwatch() {
	const wall = Date.now();
	const steady = performance.now();
	return () => Math.max(Date.now() - wall, performance.now() - steady);
}

// Returns the parameters of a 401's challenge (RFC 6750 section 3). Its error is empty if there is
// no challenge, or one without an error, as for a request without a token. It returns undefined if
// the server asks for something else than a token, or has not answered 401.
function challengeOf(response) {
	if (response.status !== 401) return undefined;
	const challenges = response.headers.get("WWW-Authenticate") ?? "Bearer";
	const bearer = /(?:^|,)\s*Bearer(?=[\s,]|$)(.*)/i.exec(challenges);
	if (!bearer) return undefined;
	const found = { error: "" };
	const parameter = /([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))/g;
	for (const [, name, quoted, token] of bearer[1].matchAll(parameter)) {
		found[name.toLowerCase()] ||= quoted ?? token;
	}
	return found;
}
const curable = new Set(["", "invalid_token"]); // by a refresh

// Whether the server has got no cookie from a page of another origin, and cannot tell why.
const lacksCookies = ({ status }, body) => status === 400 && body?.error === "cookies_missing";

const isInfo = (body) => typeof body?.session_id === "string" &&
	Number.isFinite(body.expires_in) && Number.isFinite(body.refresh_expires_in);

// Turns what the server says in seconds from now into times.
function dated({ expires_in, refresh_expires_in, session_ends_in, ...info }) {
	const at = (seconds) => Date.now() + seconds * second;
	info.expires_at = at(expires_in);
	info.refresh_expires_at = at(refresh_expires_in);
	if (session_ends_in !== undefined) info.session_ends_at = at(session_ends_in);
	return info;
}

// Returns null for what is not JSON, or not there.
function parsed(text) {
	try {
		return JSON.parse(text);
	} catch {
		return null;
	}
}

const sessionChanged = () => new SessionChangedError("somebody else has logged in");

function unavailable(response, cause) {
	const what = response ? `the server answered ${response.status}` : "the server did not answer";
	const err = new UnavailableError(what, { cause });
	if (response) {
		const { ok, status } = response;
		err.status = status;
		err.transient = ok || status >= 500 || status === 408 || status === 429;
		err.retryAfter = retryAfter(response.headers.get("Retry-After"));
	}
	return err;
}

// Returns a Retry-After in milliseconds, which comes in seconds or as a date (RFC 9110 section
// 10.2.3), or 0 for anything else.
function retryAfter(value) {
	if (/^\d+$/.test(value)) return Number(value) * second;
	return Math.max(0, Date.parse(value) - Date.now()) || 0;
}

// Waits for a promise, but no longer than the caller does. If it fails, the caller does not get the
// response.
function unlessAborted(signal, promise, response) {
	return new Promise((resolve, reject) => {
		if (signal.aborted) reject(signal.reason);
		signal.addEventListener("abort", () => reject(signal.reason), { once: true });
		promise.then(resolve, reject);
	}).catch((err) => {
		discard(response);
		throw err;
	});
}

// Gives up a response, if there is one. A body that nobody reads would keep its connection.
function discard(response) {
	response?.body?.cancel().catch(() => {});
}

// Locks within this tab.
function ownLocks() {
	let last = Promise.resolve();
	return { request: (_name, _options, work) => (last = last.then(work, work)) };
}

export const session = new Session(import.meta.url);
