import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { InMemoryWebStorage, User, UserManager, WebStorageStateStore } from "oidc-client-ts";
import { clients, host, plainClient, plainSecret, rounds } from "./host.js";

// It writes id and secret into the header as they are, where RFC 6749 section 2.3.1 has them encoded first.
const ours = clients.map((c) => (c.method === "client_secret_basic" ? { ...c, id: plainClient, secret: plainSecret } : c));

for (const { name, id, secret, method } of ours) {
  describe(`oidc-client-ts, ${name}`, () => {
    const site = host("EdDSA");
    // As an application makes it, but with stores that are no browser's.
    const store = () => new WebStorageStateStore({ store: new InMemoryWebStorage() });
    const newManager = () => new UserManager({
      authority: site.issuer, client_id: id, client_secret: secret, client_authentication: method,
      redirect_uri: "https://app.example/callback", scope: "read write",
      userStore: store(), stateStore: store(), automaticSilentRenew: false, monitorSession: false,
      metadata: {
        issuer: site.issuer, token_endpoint: `${site.issuer}/auth/token`, revocation_endpoint: `${site.issuer}/auth/revoke`,
        jwks_uri: `${site.issuer}/auth/jwks.json`,
      },
    });
    let manager;
    afterEach(() => manager.removeUser()); // stops its timers
    const start = async () => {
      manager = newManager();
      await manager.storeUser(new User({ ...(await site.start(id)), token_type: "Bearer", scope: "read write", profile: {} }));
    };
    const isInvalidGrant = { name: "ErrorResponse", error: "invalid_grant" };

    it("refreshes in a loop", async () => {
      await start();
      let last = await manager.getUser();
      for (let i = 0; i < rounds; i++) {
        const user = await manager.signinSilent();
        assert.notEqual(user.refresh_token, last.refresh_token);
        assert.ok(user.expires_in > 890 && user.expires_in <= 900);
        assert.equal(await site.api(user.access_token), 200);
        last = user;
      }
    });

    it("revokes, and learns that the session is over", async () => {
      await start();
      const user = await manager.getUser();
      await manager.revokeTokens(["access_token", "refresh_token"]);
      assert.equal(await site.api(user.access_token), 401);
      await manager.storeUser(user);
      await assert.rejects(manager.signinSilent(), isInvalidGrant);
    });

    it("takes an outage for no verdict, and goes on afterwards", async () => {
      await start();
      await site.whileDown(() => assert.rejects(manager.signinSilent(), (err) => {
        assert.notEqual(err.error, "invalid_grant");
        assert.match(String(err), /temporarily_unavailable|503/);
        return true;
      }));
      await manager.signinSilent();
    });
  });
}
