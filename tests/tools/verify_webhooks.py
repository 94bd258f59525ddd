"""Verifies deliveries as a receiver in Python does: one JSON object per line on standard input, with
`secret`, `headers` and `body`; prints "ok" or "bad" for each. With `waha` as its argument it checks
WAHA's signature with `key` instead."""

import hashlib
import hmac
import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError


def waha(delivery):
    digest = hmac.new(delivery["key"].encode(), delivery["body"].encode(), hashlib.sha512).hexdigest()
    headers = delivery["headers"]
    fits = hmac.compare_digest(digest, headers["x-webhook-hmac"])
    return fits and headers["x-webhook-hmac-algorithm"] == "sha512"


def standard(delivery):
    try:
        Webhook(delivery["secret"]).verify(delivery["body"], delivery["headers"])
        return True
    except WebhookVerificationError:
        return False


check = waha if sys.argv[1:] == ["waha"] else standard
for line in sys.stdin:
    print("ok" if check(json.loads(line)) else "bad", flush=True)
