// Vite builds and serves a project that uses session.js as docs/script.md says.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import * as vite from "vite";

const tree = fileURLToPath(new URL("../../..", import.meta.url));

/** The first snippet of the page that has this in it. */
function documented(part) {
  const page = readFileSync(join(tree, "docs/script.md"), "utf8");
  const found = [...page.matchAll(/```ts\n(.*?)```/gs)].find(([, code]) => code.includes(part));
  assert.ok(found, `docs/script.md has no snippet with ${part}`);
  return found[1];
}

describe("Vite", () => {
  const root = mkdtempSync(join(tmpdir(), "vite"));
  const target = documentedTarget();
  before(() => {
    execFileSync("go", ["run", "./sessionhttp/sessionjs", root], { cwd: tree, stdio: "inherit" });
    writeFileSync(join(root, "index.html"), `<script type="module" src="/main.ts"></script>`);
    writeFileSync(join(root, "served.ts"), documented("@vite-ignore"));
    writeFileSync(join(root, "main.ts"), `import { session } from "./served";\nsession.info();\n`);
    writeFileSync(join(root, "bundled.ts"), documented(`from "./session.js"`) + "session.info();\n");
  });
  after(() => rmSync(root, { recursive: true }));

  const built = async (input) => {
    const { output } = await vite.build({
      root, configFile: false, logLevel: "warn", build: { target, write: false, rolldownOptions: { input: join(root, input) } },
    });
    return output.map(({ code }) => code ?? "").join("\n");
  };

  it("leaves the served module to the server", async () => {
    const code = await built("index.html");
    assert.match(code, /import\([`"']\/auth\/session\.js[`"']\)/);
    assert.doesNotMatch(code, /tokensession/, "the module is not in the bundle");
  });

  it("puts the written module into the bundle", async () => {
    assert.match(await built("bundled.ts"), /[`"']\/auth\/[`"']/);
  });

  it("passes the endpoints on from its development server", async () => {
    const server = createServer((request, response) => {
      response.setHeader("Content-Type", "text/javascript");
      response.end(`// the server's ${request.url}`);
    }).listen(0, "127.0.0.1");
    await new Promise((listening) => server.once("listening", listening));
    const dev = await vite.createServer({
      root, configFile: false, logLevel: "warn",
      server: { port: 0, host: "127.0.0.1", proxy: { "/auth": `http://127.0.0.1:${server.address().port}` } },
    });
    try {
      await dev.listen();
      const url = `http://127.0.0.1:${dev.httpServer.address().port}`;
      const page = await (await fetch(url + "/served.ts")).text();
      assert.match(page, /"\/auth\/session\.js"/);
      assert.equal(await (await fetch(url + "/auth/session.js")).text(), "// the server's /auth/session.js");
    } finally {
      await dev.close();
      server.close();
    }
  });
});

/** The build target that the page names. */
function documentedTarget() {
  const page = readFileSync(join(tree, "docs/script.md"), "utf8");
  const [, target] = page.match(/build: \{ target: "(\w+)" \}/) ?? [];
  assert.ok(target, "docs/script.md names no target");
  return target;
}
