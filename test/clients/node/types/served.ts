// A page whose bundler must not look for the served module: the name is no literal.
const url = "/auth/session.js";
export const { session }: typeof import("../../../../sessionhttp/session.js") = await import(/* @vite-ignore */ url);
// @ts-expect-error: there is no such call
session.nothing();
