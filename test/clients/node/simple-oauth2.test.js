import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AuthorizationCode } from "simple-oauth2";
import { clients, host, rounds } from "./host.js";

for (const { name, id, secret = "", method } of clients) {
  describe(`simple-oauth2, ${name}`, () => {
    const site = host("EdDSA");
    const { origin, pathname } = new URL(site.issuer);
    const client = new AuthorizationCode({
      client: { id, secret },
      auth: { tokenHost: origin, tokenPath: `${pathname}/auth/token`, revokePath: `${pathname}/auth/revoke` },
      options: { authorizationMethod: method === "client_secret_basic" ? "header" : "body" },
    });
    const start = async () => client.createToken(await site.start(id));
    const isInvalidGrant = (err) => {
      assert.equal(err.output.statusCode, 400);
      assert.equal(err.data.payload.error, "invalid_grant");
      return true;
    };

    it("refreshes in a loop", async () => {
      let token = await start();
      for (let i = 0; i < rounds; i++) {
        const next = await token.refresh();
        assert.notEqual(next.token.refresh_token, token.token.refresh_token);
        assert.equal(next.expired(890), false);
        assert.equal(next.expired(901), true);
        assert.equal(await site.api(next.token.access_token), 200);
        token = next;
      }
    });

    it("revokes either token, and learns that the session is over", async () => {
      for (const kind of ["access_token", "refresh_token"]) {
        const token = await start();
        await token.revoke(kind);
        await assert.rejects(token.refresh(), isInvalidGrant);
        assert.equal(await site.api(token.token.access_token), 401);
      }
      const token = await start();
      await token.revokeAll();
      await assert.rejects(token.refresh(), isInvalidGrant);
    });

    it("decodes reuse as invalid_grant", async () => {
      const first = await start();
      const second = await first.refresh();
      const third = await second.refresh();
      await assert.rejects(first.refresh(), isInvalidGrant);
      await assert.rejects(third.refresh(), isInvalidGrant);
    });

    it("takes an outage for no verdict, and goes on afterwards", async () => {
      const token = await start();
      await site.whileDown(() => assert.rejects(token.refresh(), (err) => err.output.statusCode === 503));
      await token.refresh();
    });
  });
}
