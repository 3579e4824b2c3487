"""Authlib's OAuth client against the endpoints of package sessionhttp."""

import functools
import os
import subprocess
import unittest

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.jose import JsonWebKey, JsonWebToken

ROUNDS = 20


def setUpModule():
    global server, base, known
    server = subprocess.Popen([os.environ["TOKENSESSION_TEST_SERVER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    base = server.stdout.readline().strip()
    known = control("EdDSA/clients")


def tearDownModule():
    server.stdin.close()
    server.wait(10)
    server.stdout.close()


def control(path, form=None):
    """Does what is not a client's matter."""
    url = f"{base}/test/{path}"
    answer = requests.get(url) if form is None else requests.post(url, data=form)
    answer.raise_for_status()
    return answer.json()


class Client(OAuth2Session):
    """A client of one kind, with a session that has just begun."""

    def __init__(self, client_id, secret, method, algorithm="EdDSA", **options):
        self.issuer = f"{base}/{algorithm}"
        self.saved = []
        super().__init__(
            client_id, secret, token_endpoint_auth_method=method, revocation_endpoint_auth_method=method,
            token_endpoint=self.issuer + "/auth/token",
            token={"token_type": "Bearer", **control(f"{algorithm}/start", {"client_id": client_id})},
            update_token=lambda token, **_: self.saved.append(token), **options)

    def refresh(self, token=None):
        return self.refresh_token(self.issuer + "/auth/token", token or self.token["refresh_token"])


def of_each_kind(test):
    """Gives a test a function that makes clients: for each kind of them."""
    @functools.wraps(test)
    def run(self):
        # Authlib puts ids and secrets into the header as they are: only such can be sent so that need no encoding.
        for name, kind in {
            "public client": (known["publicClient"], None, "none"),
            "secret in a header": (known["plainClient"], known["plainSecret"], "client_secret_basic"),
            "secret in the body": (known["confidentialClient"], known["confidentialSecret"], "client_secret_post"),
        }.items():
            with self.subTest(name):
                test(self, lambda: self.client(*kind))
    return run


class Authlib(unittest.TestCase):
    def client(self, *kind):
        client = Client(*kind)
        self.addCleanup(client.close)
        return client

    def me(self, client):
        return client.get(client.issuer + "/me").status_code

    def assert_over(self, client, token=None):
        with self.assertRaises(OAuthError) as caught:
            client.refresh(token)
        self.assertEqual(caught.exception.error, "invalid_grant")

    @of_each_kind
    def test_refreshes_in_a_loop(self, new_client):
        client = new_client()
        for _ in range(ROUNDS):
            before = dict(client.token)
            client.refresh()
            self.assertNotEqual(client.token["refresh_token"], before["refresh_token"])
            self.assertEqual((client.token["token_type"], client.token["expires_in"], client.token["scope"]),
                             ("Bearer", 900, "read write"))
            self.assertEqual(self.me(client), 200)

    @of_each_kind
    def test_refreshes_by_itself_when_the_token_has_expired(self, new_client):
        client = new_client()
        client.refresh()
        client.token = {**client.token, "expires_at": 1}
        self.assertEqual(self.me(client), 200)
        self.assertEqual(len(client.saved), 2)
        self.assertGreater(client.token["expires_at"], 1)

    @of_each_kind
    def test_revokes_either_token(self, new_client):
        for token in ("access_token", "refresh_token"):
            client = new_client()
            answer = client.revoke_token(client.issuer + "/auth/revoke", token=client.token[token], token_type_hint=token)
            self.assertEqual(answer.status_code, 200)
            self.assert_over(client)

    @of_each_kind
    def test_decodes_reuse_as_invalid_grant(self, new_client):
        client = new_client()
        first = client.token["refresh_token"]
        client.refresh()
        client.refresh()
        self.assert_over(client, first)
        self.assert_over(client)

    @of_each_kind
    def test_takes_an_outage_for_no_verdict(self, new_client):
        client = new_client()
        token = client.token["refresh_token"]
        control("EdDSA/store", {"down": "true"})
        try:
            with self.assertRaises((OAuthError, requests.HTTPError)) as caught:
                client.refresh()
            self.assertNotIn("invalid_grant", str(caught.exception))
        finally:
            control("EdDSA/store", {"down": "false"})
        self.assertEqual(client.token["refresh_token"], token)
        client.refresh()

    def test_verifies_access_tokens_with_the_jwks(self):
        for algorithm in ("EdDSA", "ES256", "RS256"):
            with self.subTest(algorithm):
                client = self.client(known["publicClient"], None, "none", algorithm)
                keys = JsonWebKey.import_key_set(requests.get(client.issuer + "/auth/jwks.json").json())
                claims = JsonWebToken([algorithm]).decode(client.token["access_token"], keys, claims_options={
                    "iss": {"essential": True, "value": client.issuer}, "aud": {"essential": True, "value": known["audience"]},
                })
                claims.validate()
                self.assertEqual((claims.header["typ"], claims["client_id"]), ("at+jwt", known["publicClient"]))


if __name__ == "__main__":
    unittest.main()
