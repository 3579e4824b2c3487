// Starts the Go program that the clients are tested against, and does there what is not a client's matter.
import { spawn } from "node:child_process";
import { after } from "node:test";
import { createInterface } from "node:readline";
import { once } from "node:events";

const program = process.env.TOKENSESSION_TEST_SERVER;
if (!program) throw new Error("TOKENSESSION_TEST_SERVER is not set: run `make test-clients`");

const server = spawn(program, [], { stdio: ["pipe", "pipe", "inherit"] });
const lines = createInterface({ input: server.stdout });
const base = await Promise.race([
  once(lines, "line").then(([line]) => line),
  once(server, "exit").then(([code]) => { throw new Error(`the server ended with ${code}`); }),
]);
after(() => server.stdin.end());

async function control(path, form) {
  const answer = await fetch(base + "/test/" + path, form && { method: "POST", body: new URLSearchParams(form) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

export const {
  publicClient, confidentialClient, confidentialSecret, plainClient, plainSecret, resourceServer, resourceSecret, audience,
} = await control("EdDSA/clients");

// requestsAtTwo tells how many requests went through the proxy in front of the two instances.
export const requestsAtTwo = () => control("two/requests");

// host returns the issuer of an algorithm. A session is started as a login would, and is one of two kinds of clients.
export function host(algorithm) {
  return {
    issuer: `${base}/${algorithm}`,
    start: (client) => control(`${algorithm}/start`, { client_id: client }),
    events: () => control(`${algorithm}/events`),

    // whileDown runs f while the store cannot be reached.
    async whileDown(f) {
      await control(`${algorithm}/store`, { down: "true" });
      try {
        return await f();
      } finally {
        await control(`${algorithm}/store`, { down: "false" });
      }
    },

    // status of the host's API for an access token
    async api(accessToken) {
      const answer = await fetch(`${base}/${algorithm}/me`, { headers: { authorization: `Bearer ${accessToken}` } });
      await answer.arrayBuffer();
      return answer.status;
    },
  };
}

// The kinds of clients, and how each says who it is.
export const clients = [
  { name: "public client", id: publicClient },
  { name: "confidential client, secret in a header", id: confidentialClient, secret: confidentialSecret, method: "client_secret_basic" },
  { name: "confidential client, secret in the body", id: confidentialClient, secret: confidentialSecret, method: "client_secret_post" },
];

export const rounds = 20;
