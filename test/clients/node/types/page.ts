// A page that loads the served module. Each line under "@ts-expect-error" must not compile.
import { session, SessionChangedError, UnavailableError } from "/auth/session.js";

declare function askForPassword(methods: string[]): Promise<FormData | null>;

session.addEventListener("stepup", (e) => e.detail.waitUntil(stepUp(e.detail.acr_values)));
session.addEventListener("end", (e) => location.assign("/login?" + e.detail.reason.toUpperCase()));
session.addEventListener("warning", ({ detail }) => console.log(detail.ends_at - Date.now(), detail.extendable));
session.addEventListener("update", ({ detail }) => console.log(detail.subject, detail.session_ends_at?.toFixed()));

async function stepUp(methods: string[]) {
	const body = await askForPassword(methods);
	if (body) await session.stepUp("/auth/step-up", { method: "POST", body });
}

export async function main(form: HTMLFormElement) {
	session.warnBefore = 60_000;
	const response = await session.login(() => fetch("/login", { method: "POST", body: new FormData(form) }));
	if (!response.ok) return;
	const who = await session.info();
	const again = await session.refresh();
	console.log(who?.subject, again?.expires_at);
	// @ts-expect-error: nobody may be logged in
	console.log(who.subject);
	for (const device of (await session.devices()) ?? []) {
		console.log(new Date(device.created_at), device.last_seen, device.attributes?.name, device.actor);
		if (!device.current) await session.revoke(device.id);
		// @ts-expect-error: it is one device at a time
		await session.revoke(device);
	}
	const ended: number | null = await session.revokeOthers();
	// @ts-expect-error: login takes a function that sends the request
	await session.login(fetch("/login"));
	// @ts-expect-error: there is no such event detail
	session.addEventListener("end", (e) => e.detail.ends_at);
	const { fetch: send } = session;
	await send("/api/notes").catch((err: unknown) => {
		if (err instanceof UnavailableError) return setTimeout(main, err.retryAfter || 1000, form);
		if (err instanceof SessionChangedError) return location.reload();
		throw err;
	});
	await session.logout();
	return ended;
}
