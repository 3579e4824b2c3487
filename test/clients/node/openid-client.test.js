import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as client from "openid-client";
import { clients, host, resourceSecret, resourceServer, rounds } from "./host.js";

const options = { algorithm: "oauth2", execute: [client.allowInsecureRequests] };

function authentication({ secret, method }) {
  if (!secret) return client.None();
  return method === "client_secret_basic" ? client.ClientSecretBasic(secret) : client.ClientSecretPost(secret);
}

const discover = (site, id, auth) => client.discovery(new URL(site.issuer), id, undefined, auth, options);

const invalidGrant = { name: "ResponseBodyError", code: "OAUTH_RESPONSE_BODY_ERROR", error: "invalid_grant", status: 400 };

for (const kind of clients) {
  describe(`openid-client, ${kind.name}`, async () => {
    const site = host("EdDSA");
    const config = await discover(site, kind.id, authentication(kind));

    it("refreshes in a loop", async () => {
      let { refresh_token: token } = await site.start(kind.id);
      for (let i = 0; i < rounds; i++) {
        const next = await client.refreshTokenGrant(config, token);
        assert.notEqual(next.refresh_token, token);
        assert.equal(next.scope, "read write");
        assert.ok(next.expiresIn() > 890 && next.expiresIn() <= 900);
        assert.equal(await site.api(next.access_token), 200);
        token = next.refresh_token;
      }
    });

    it("reaches what the access token lets it in to", async () => {
      const { access_token: token } = await site.start(kind.id);
      const answer = await client.fetchProtectedResource(config, token, new URL(`${site.issuer}/me`), "GET");
      assert.deepEqual(await answer.json(), { subject: "alice", client: kind.id });
    });

    it("decodes the challenge of an access token that is none", async () => {
      await assert.rejects(client.fetchProtectedResource(config, "no token", new URL(`${site.issuer}/me`), "GET"), (err) => {
        assert.equal(err.code, "OAUTH_WWW_AUTHENTICATE_CHALLENGE");
        assert.equal(err.cause[0].scheme, "bearer");
        assert.equal(err.cause[0].parameters.error, "invalid_token");
        return true;
      });
    });

    it("revokes, and learns that the session is over", async () => {
      const tokens = await site.start(kind.id);
      await client.tokenRevocation(config, tokens.refresh_token, { token_type_hint: "refresh_token" });
      await client.tokenRevocation(config, tokens.refresh_token);
      await client.tokenRevocation(config, "no token");
      await assert.rejects(client.refreshTokenGrant(config, tokens.refresh_token), invalidGrant);
      assert.equal(await site.api(tokens.access_token), 401);
    });

    it("decodes reuse as invalid_grant", async () => {
      const { refresh_token: first } = await site.start(kind.id);
      const second = await client.refreshTokenGrant(config, first);
      const third = await client.refreshTokenGrant(config, second.refresh_token);
      await assert.rejects(client.refreshTokenGrant(config, first), invalidGrant);
      await assert.rejects(client.refreshTokenGrant(config, third.refresh_token), invalidGrant);
    });

    it("takes an outage for no verdict, and goes on afterwards", async () => {
      const { refresh_token: token } = await site.start(kind.id);
      await site.whileDown(() => assert.rejects(client.refreshTokenGrant(config, token), (err) => {
        assert.equal(err.code, "OAUTH_RESPONSE_IS_NOT_CONFORM");
        assert.equal(err.cause.status, 503);
        return true;
      }));
      await client.refreshTokenGrant(config, token);
    });
  });
}

describe("openid-client, resource server", async () => {
  const site = host("EdDSA");
  const config = await discover(site, resourceServer, client.ClientSecretBasic(resourceSecret));

  it("introspects", async () => {
    const tokens = await site.start(clients[0].id);
    const live = await client.tokenIntrospection(config, tokens.access_token);
    assert.deepEqual([live.active, live.sub, live.scope], [true, "alice", "read write"]);
    assert.deepEqual(await client.tokenIntrospection(config, "no token"), { active: false });
  });

  it("is refused with another secret", async () => {
    const wrong = await discover(site, resourceServer, client.ClientSecretBasic("wrong"));
    await assert.rejects(client.tokenIntrospection(wrong, "no token"), { code: "OAUTH_WWW_AUTHENTICATE_CHALLENGE", status: 401 });
  });
});
