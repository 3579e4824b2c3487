import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as oauth from "oauth4webapi";
import { clients, host, resourceSecret, resourceServer, rounds } from "./host.js";

const insecure = { [oauth.allowInsecureRequests]: true };

function authentication({ secret, method }) {
  if (!secret) return oauth.None();
  return method === "client_secret_basic" ? oauth.ClientSecretBasic(secret) : oauth.ClientSecretPost(secret);
}

for (const client of clients) {
  describe(`oauth4webapi, ${client.name}`, async () => {
    const site = host("EdDSA");
    const issuer = new URL(site.issuer);
    const as = await oauth.processDiscoveryResponse(issuer,
      await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure }));
    const me = { client_id: client.id };
    const auth = authentication(client);

    const refresh = async (token, options) => oauth.processRefreshTokenResponse(as, me,
      await oauth.refreshTokenGrantRequest(as, me, auth, token, { ...insecure, ...options }));
    const introspect = async (token) => {
      const api = { client_id: resourceServer };
      return oauth.processIntrospectionResponse(as, api,
        await oauth.introspectionRequest(as, api, oauth.ClientSecretBasic(resourceSecret), token, insecure));
    };
    const revoke = async (token) =>
      oauth.processRevocationResponse(await oauth.revocationRequest(as, me, auth, token, insecure));
    const invalidGrant = { name: "ResponseBodyError", error: "invalid_grant", status: 400 };

    it("refreshes in a loop", async () => {
      let { refresh_token: token } = await site.start(client.id);
      for (let i = 0; i < rounds; i++) {
        const next = await refresh(token);
        assert.notEqual(next.refresh_token, token);
        assert.equal(next.token_type, "bearer");
        assert.equal(next.expires_in, 900);
        assert.equal(next.scope, "read write");
        assert.equal(await site.api(next.access_token), 200);
        token = next.refresh_token;
      }
    });

    it("asks for less scope, and learns that there is no more", async () => {
      const { refresh_token: token } = await site.start(client.id);
      await assert.rejects(refresh(token, { additionalParameters: { scope: "read admin" } }),
        { name: "ResponseBodyError", error: "invalid_scope", status: 400 });
      const next = await refresh(token, { additionalParameters: { scope: "read" } });
      assert.equal(next.scope, "read");
    });

    it("revokes either token, and learns that the session is over", async () => {
      for (const kind of ["access_token", "refresh_token"]) {
        const tokens = await site.start(client.id);
        await revoke(tokens[kind]);
        await revoke(tokens[kind]);
        await assert.rejects(refresh(tokens.refresh_token), invalidGrant);
        assert.equal(await site.api(tokens.access_token), 401);
      }
    });

    it("revokes what is no token", () => revoke("no token"));

    it("introspects a live session's tokens, and a dead one's", async () => {
      const tokens = await site.start(client.id);
      const live = await introspect(tokens.access_token);
      assert.deepEqual([live.active, live.sub, live.client_id, live.iss, live.token_type],
        [true, "alice", client.id, site.issuer, "Bearer"]);
      await revoke(tokens.refresh_token);
      assert.deepEqual(await introspect(tokens.access_token), { active: false });
      assert.deepEqual(await introspect("no token"), { active: false });
    });

    it("decodes reuse, and another client's token, as invalid_grant", async () => {
      const { refresh_token: first } = await site.start(client.id);
      const { refresh_token: second } = await refresh(first);
      const { refresh_token: third } = await refresh(second);
      await assert.rejects(refresh(first), invalidGrant);
      await assert.rejects(refresh(third), invalidGrant);
      const another = await site.start("another client");
      await assert.rejects(refresh(another.refresh_token), invalidGrant);
    });

    it("takes an outage for no verdict, and goes on afterwards", async () => {
      const { refresh_token: token } = await site.start(client.id);
      await site.whileDown(() => assert.rejects(refresh(token), (err) => {
        assert.equal(err.name, "OperationProcessingError");
        assert.equal(err.cause.status, 503);
        assert.equal(err.cause.headers.get("retry-after"), "1");
        return true;
      }));
      await refresh(token);
    });
  });
}

it("oauth4webapi decodes a wrong secret, which consumes nothing", async () => {
  const site = host("EdDSA");
  const [, { id, secret }] = clients;
  const as = { issuer: site.issuer, token_endpoint: `${site.issuer}/auth/token` };
  const me = { client_id: id };
  const { refresh_token: token } = await site.start(id);
  const refresh = async (auth) => oauth.processRefreshTokenResponse(as, me,
    await oauth.refreshTokenGrantRequest(as, me, auth, token, insecure));
  for (const auth of [oauth.ClientSecretBasic("wrong"), oauth.ClientSecretPost("wrong")]) {
    await assert.rejects(refresh(auth), (err) => {
      assert.equal(err.name, "WWWAuthenticateChallengeError");
      assert.equal(err.status, 401);
      assert.equal(err.cause[0].scheme, "basic");
      return true;
    });
  }
  await refresh(oauth.ClientSecretBasic(secret));
});
