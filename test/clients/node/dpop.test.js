// Clients that bind their tokens to a key (RFC 9449), at one instance and at two behind a proxy.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as dpop from "dpop";
import * as oauth from "oauth4webapi";
import * as openid from "openid-client";
import { confidentialClient, confidentialSecret, host, publicClient, requestsAtTwo, rounds } from "./host.js";

const insecure = { [oauth.allowInsecureRequests]: true };
const login = { client_id: publicClient };
const algorithms = ["ES256", "Ed25519"];
const sites = { "one instance": host("EdDSA"), "two instances": host("two") };

// Each kind of client logs in, refreshes, and sends a request to the API. Where the server asks for a nonce, it
// sends the same request once more.

async function newOauth4webapi(site, algorithm) {
  const issuer = new URL(site.issuer);
  const as = await oauth.processDiscoveryResponse(issuer,
    await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure }));
  const me = { client_id: publicClient };
  const options = { DPoP: oauth.DPoP(me, await oauth.generateKeyPair(algorithm)), ...insecure };
  const again = (send) => send().catch((err) => (oauth.isDPoPNonceError(err) ? send() : Promise.reject(err)));
  return {
    login: () => again(async () => {
      const at = { ...as, token_endpoint: `${site.issuer}/login` };
      return oauth.processGenericTokenEndpointResponse(at, me,
        await oauth.genericTokenEndpointRequest(at, me, oauth.None(), "password", login, options));
    }),
    refresh: (token) => again(async () => oauth.processRefreshTokenResponse(as, me,
      await oauth.refreshTokenGrantRequest(as, me, oauth.None(), token, options))),
    call: (token, method, url) => again(() =>
      oauth.protectedResourceRequest(token, method, url, undefined, undefined, options)),
  };
}

async function newOpenidClient(site, algorithm) {
  const discover = () => openid.discovery(new URL(site.issuer), publicClient, undefined, openid.None(),
    { algorithm: "oauth2", execute: [openid.allowInsecureRequests] });
  const config = await discover();
  const atLogin = new openid.Configuration({ ...config.serverMetadata(), token_endpoint: `${site.issuer}/login` },
    publicClient, undefined, openid.None());
  openid.allowInsecureRequests(atLogin);
  const options = { DPoP: openid.getDPoPHandle(config, await openid.randomDPoPKeyPair(algorithm)) };
  return {
    login: () => openid.genericGrantRequest(atLogin, "password", login, options),
    refresh: (token) => openid.refreshTokenGrant(config, token, undefined, options),
    call: (token, method, url) =>
      openid.fetchProtectedResource(config, token, url, method, undefined, undefined, options),
  };
}

// The package makes proofs, and leaves the rest to its caller.
async function newDpop(site, algorithm) {
  const keys = await dpop.generateKeyPair(algorithm);
  let nonce;
  const send = async (method, url, token, form) => {
    for (let attempt = 0; ; attempt++) {
      const headers = { dpop: await dpop.generateProof(keys, url.split("?")[0], method, nonce, token) };
      if (token) headers.authorization = `DPoP ${token}`;
      const answer = await fetch(url, { method, headers, body: form && new URLSearchParams(form) });
      nonce = answer.headers.get("dpop-nonce") ?? nonce;
      const body = await answer.json();
      const code = body.error ?? answer.headers.get("www-authenticate");
      if (attempt === 0 && code === "use_dpop_nonce") continue;
      if (!answer.ok) throw Object.assign(new Error(`${answer.status} ${code}`), { status: answer.status, error: code });
      return { ...body, status: answer.status };
    }
  };
  const post = async (path, form) => {
    const tokens = await send("POST", site.issuer + path, undefined, form);
    return { ...tokens, token_type: tokens.token_type.toLowerCase() };
  };
  return {
    login: () => post("/login", login),
    refresh: (token) => post("/auth/token", { grant_type: "refresh_token", refresh_token: token, client_id: publicClient }),
    call: (token, method, url) => send(method, url.href, token),
    thumbprint: () => dpop.calculateThumbprint(keys.publicKey),
  };
}

const clients = { oauth4webapi: newOauth4webapi, "openid-client": newOpenidClient, dpop: newDpop };

for (const [name, newClient] of Object.entries(clients)) {
  for (const algorithm of algorithms) {
    for (const [where, site] of Object.entries(sites)) {
      describe(`DPoP with ${name}, ${algorithm}, at ${where}`, async () => {
        const me = new URL(`${site.issuer}/me?page=2`);
        const payments = new URL(`${site.issuer}/payments`);

        it("logs in, calls and refreshes in a loop", async () => {
          const client = await newClient(site, algorithm);
          let tokens = await client.login();
          for (let i = 0; i < rounds; i++) {
            assert.equal(tokens.token_type, "dpop");
            assert.equal((await client.call(tokens.access_token, "GET", me)).status, 200);
            assert.equal((await client.call(tokens.access_token, "POST", payments)).status, 200);
            const next = await client.refresh(tokens.refresh_token);
            assert.notEqual(next.refresh_token, tokens.refresh_token);
            tokens = next;
          }
        });

        it("gets nothing with the tokens of another one, and ends nothing", async () => {
          const [owner, thief] = [await newClient(site, algorithm), await newClient(site, algorithm)];
          const tokens = await owner.login();
          await assert.rejects(thief.refresh(tokens.refresh_token), { error: "invalid_grant" });
          await assert.rejects(thief.call(tokens.access_token, "GET", me));
          const bearer = await fetch(me, { headers: { authorization: `Bearer ${tokens.access_token}` } });
          assert.equal(bearer.status, 401);
          assert.match(bearer.headers.get("www-authenticate"), /^DPoP error="invalid_token", algs="ES256 /);
          await owner.refresh(tokens.refresh_token);
        });
      });
    }
  }
}

describe("DPoP at two instances behind a proxy", () => {
  it("makes no trip more than at one", async () => {
    const site = sites["two instances"];
    for (const newClient of Object.values(clients)) {
      const client = await newClient(site, "ES256");
      let tokens = await client.login();
      let before = await requestsAtTwo();
      let extra = 0;
      for (let i = 0; i < rounds; i++) {
        await client.call(tokens.access_token, "GET", new URL(`${site.issuer}/me`));
        tokens = await client.refresh(tokens.refresh_token);
        const now = await requestsAtTwo();
        extra += now - before - 2;
        before = now;
      }
      // Each answer tells the newest nonce, and the one before is still good: none of these had to be repeated.
      assert.equal(extra, 0);
    }
  });

  it("tells a client by its metadata which algorithms there are", async () => {
    const answer = await fetch(`${sites["two instances"].issuer.replace("/two", "")}/.well-known/oauth-authorization-server/two`);
    assert.deepEqual((await answer.json()).dpop_signing_alg_values_supported, ["ES256", "EdDSA", "Ed25519"]);
  });

  it("refuses clients without a key", async () => {
    const { issuer } = sites["two instances"];
    const answer = await fetch(`${issuer}/login`, { method: "POST", body: new URLSearchParams(login) });
    assert.deepEqual([answer.status, await answer.json()], [400, { error: "invalid_dpop_proof" }]);
    const api = await fetch(`${issuer}/me`);
    assert.deepEqual([api.status, api.headers.get("www-authenticate")], [401, 'DPoP algs="ES256 EdDSA Ed25519"']);
  });
});

describe("DPoP with a client that has a secret", () => {
  it("binds the access token only, so that the key may change", async () => {
    const site = sites["one instance"];
    const as = { issuer: site.issuer, token_endpoint: `${site.issuer}/auth/token` };
    const me = { client_id: confidentialClient };
    let { refresh_token: token } = await site.start(confidentialClient);
    for (const algorithm of ["ES256", "Ed25519", "ES256"]) {
      const options = { DPoP: oauth.DPoP(me, await oauth.generateKeyPair(algorithm)), ...insecure };
      const refresh = async () => oauth.processRefreshTokenResponse(as, me,
        await oauth.refreshTokenGrantRequest(as, me, oauth.ClientSecretBasic(confidentialSecret), token, options));
      await assert.rejects(refresh(), oauth.isDPoPNonceError);
      const tokens = await refresh();
      assert.equal(tokens.token_type, "dpop");
      const answer = await oauth.protectedResourceRequest(tokens.access_token, "GET", new URL(`${site.issuer}/me`),
        undefined, undefined, options);
      assert.equal(answer.status, 200);
      token = tokens.refresh_token;
    }
  });
});
