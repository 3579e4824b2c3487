// The types of session.js. The comment at the beginning of that file says what everything does.

/** Who is logged in. Times are in milliseconds of this device's clock, as Date.now() has them. */
export interface SessionInfo {
	subject: string;
	session_id: string;
	scope?: string;
	/** When the access token has to be refreshed. */
	expires_at: number;
	/** When the session ends unless it is refreshed. */
	refresh_expires_at: number;
	/** When it ends whatever happens, if ever. */
	session_ends_at?: number;
	/** Whether the browser refreshes the session by itself, with a key of its device. */
	bound?: boolean;
}

/** One of the user's sessions. Times are in milliseconds, of the server's clock. */
export interface Device {
	id: string;
	/** Whether it is the session of this page. */
	current: boolean;
	created_at: number;
	/** Only of other sessions, and only if it is an hour ago or more. */
	last_seen?: number;
	/** Who acts in it as the user, if somebody does. */
	actor?: string;
	attributes?: Record<string, string>;
}

/** What a server asks for (RFC 9470). */
export interface StepUp {
	/** How many seconds ago the proof may have been. */
	max_age?: number;
	acr_values: string[];
	/** Lets the request wait until the dialog's promise is settled. */
	waitUntil(dialog: Promise<unknown>): void;
}

export interface SessionEvents {
	update: CustomEvent<SessionInfo>;
	warning: CustomEvent<{ ends_at: number; extendable: boolean }>;
	end: CustomEvent<{ reason: "logout" | "ended" }>;
	stepup: CustomEvent<StepUp>;
}

/** It could not be told whether the login still is good. It may be: try again later. */
export class UnavailableError extends Error {
	/** Whether trying again at once may help. */
	readonly transient: boolean;
	/** In milliseconds; 0 if the server has not said. */
	readonly retryAfter: number;
	/** What the server answered; 0 if it did not. */
	readonly status: number;
}

/**
 * The browser of a page of another origin sends no cookies to the session's, or has not kept those of a
 * login. The login may be good for pages of that origin.
 */
export class CookiesError extends UnavailableError {}

/** Somebody else is logged in now, and the request was not sent as theirs. */
export class SessionChangedError extends Error {}

export class Session extends EventTarget {
	/** The URL of the endpoints, or of anything beside them: "/auth/". */
	constructor(url: string | URL);

	/** How long before the session's end there is a warning, in milliseconds. */
	warnBefore: number;

	/** As the global fetch, but that it refreshes. It can be passed on without its session. */
	readonly fetch: (input: RequestInfo | URL, init?: RequestInit) => Promise<Response>;
	info(): Promise<SessionInfo | null>;
	refresh(): Promise<SessionInfo | null>;
	login(send: () => Promise<Response>): Promise<Response>;
	stepUp(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
	devices(): Promise<Device[] | null>;
	revoke(id: string): Promise<boolean | null>;
	revokeOthers(): Promise<number | null>;
	logout(): Promise<void>;

	addEventListener<K extends keyof SessionEvents>(
		type: K,
		listener: (this: Session, event: SessionEvents[K]) => unknown,
		options?: boolean | AddEventListenerOptions,
	): void;
	addEventListener(
		type: string,
		listener: EventListenerOrEventListenerObject | null,
		options?: boolean | AddEventListenerOptions,
	): void;
	removeEventListener<K extends keyof SessionEvents>(
		type: K,
		listener: (this: Session, event: SessionEvents[K]) => unknown,
		options?: boolean | EventListenerOptions,
	): void;
	removeEventListener(
		type: string,
		listener: EventListenerOrEventListenerObject | null,
		options?: boolean | EventListenerOptions,
	): void;
}

/** The session of the endpoints beside session.js. */
export const session: Session;
