import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from "jose";
import { audience, host, publicClient } from "./host.js";

for (const algorithm of ["EdDSA", "ES256", "RS256"]) {
  describe(`jose, ${algorithm}`, () => {
    const site = host(algorithm);
    const keys = createRemoteJWKSet(new URL(`${site.issuer}/auth/jwks.json`));
    const rules = { issuer: site.issuer, audience, typ: "at+jwt", algorithms: [algorithm],
      requiredClaims: ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "sid"] };

    it("verifies an access token with the published keys", async () => {
      const { access_token: token } = await site.start(publicClient);
      const { payload, protectedHeader } = await jwtVerify(token, keys, rules);
      assert.equal(protectedHeader.alg, algorithm);
      assert.equal(payload.sub, "alice");
      assert.equal(payload.client_id, publicClient);
      assert.equal(payload.exp - payload.iat, 900);
    });

    it("refuses one that was changed, and one of another issuer", async () => {
      const { access_token: token } = await site.start(publicClient);
      const [head, , signature] = token.split(".");
      const forged = Buffer.from(JSON.stringify({ sub: "mallory", iss: site.issuer, aud: audience, exp: 2e9 })).toString("base64url");
      await assert.rejects(jwtVerify([head, forged, signature].join("."), keys, rules), { code: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED" });
      const other = await host(algorithm === "EdDSA" ? "ES256" : "EdDSA").start(publicClient);
      await assert.rejects(jwtVerify(other.access_token, keys, rules), { code: "ERR_JOSE_ALG_NOT_ALLOWED" });
      const { algorithms, ...anyAlgorithm } = rules;
      await assert.rejects(jwtVerify(other.access_token, keys, anyAlgorithm), { code: "ERR_JWKS_NO_MATCHING_KEY" });
    });

    it("finds public members only, and the token's key among them", async () => {
      const { access_token: token } = await site.start(publicClient);
      const answer = await fetch(`${site.issuer}/auth/jwks.json`);
      const set = await answer.json();
      assert.ok(set.keys.some((key) => key.kid === decodeProtectedHeader(token).kid));
      for (const key of set.keys) {
        for (const secret of ["d", "p", "q", "dp", "dq", "qi", "k", "oth"]) assert.ok(!(secret in key), secret);
      }
    });
  });
}
