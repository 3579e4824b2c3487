// The TypeScript compiler reads the types of session.js as programs do that use it.
import { execFileSync } from "node:child_process";
import test from "node:test";

test("a program that uses session.js compiles, and one that misuses it does not", () => {
	const tsc = new URL("node_modules/.bin/tsc", import.meta.url).pathname;
	execFileSync(tsc, ["--project", "types"], { cwd: new URL(".", import.meta.url), stdio: "inherit" });
});
