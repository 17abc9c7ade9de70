"""Ask a running service, with nothing but Python's standard library.

    spherecv serve --gallery people.db                         (in another window)
    python examples/service_client.py verify A.jpg B.jpg
    python examples/service_client.py enrol Ann ann1.jpg ann2.jpg
    python examples/service_client.py identify party.jpg
    python examples/service_client.py forget Ann

SPHERECV_SERVICE is the service's address (http://127.0.0.1:8000), SPHERECV_KEY its key, if it wants one.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ADDRESS = os.environ.get("SPHERECV_SERVICE", "http://127.0.0.1:8000")
PATIENCE = 60


class Refused(Exception):  # noqa: N818
    """The service's own words for why it did not answer."""


def call(path: str, body: dict[str, object] | None = None, *, method: str | None = None) -> dict:
    """Call the service; waits and asks again where it is busy."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if "SPHERECV_KEY" in os.environ:
        headers["Authorization"] = f"Bearer {os.environ['SPHERECV_KEY']}"
    data = None if body is None else json.dumps(body).encode()
    for attempt in range(5):
        request = urllib.request.Request(ADDRESS + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            wait = error.headers.get("Retry-After")
            if error.code in (429, 503) and wait and attempt < 4:
                time.sleep(int(wait))
                continue
            raise Refused(json.load(error)["detail"]) from None
        except urllib.error.URLError as error:
            raise Refused(f"{ADDRESS} cannot be reached: {error.reason}") from None
    raise AssertionError("unreachable")


def picture(path: str) -> str:
    """Read a picture as the service takes it in JSON."""
    return base64.b64encode(Path(path).read_bytes()).decode()


def person(name: str) -> str:
    return "/v1/gallery/" + urllib.parse.quote(name, safe="")


def main(arguments: list[str]) -> None:
    match arguments:
        case ["verify", a, b]:
            answer = call("/v1/verify", {"img1": picture(a), "img2": picture(b)})
            word = "same person" if answer["verified"] else "different people"
            print(f"{word}: distance {answer['distance']:.4f}, threshold {answer['threshold']:.4f}")
        case ["enrol", name, *paths] if paths:
            body = {"identity": name, "img": [picture(path) for path in paths], "if_exists": "add"}
            answer = call("/v1/gallery", body)
            print(f"{name}: {answer['faces']} new faces")
        case ["identify", path]:
            for match in call("/v1/identify", {"img": picture(path)})["matches"]:
                nearest = "" if match["distance"] is None else f" (nearest distance {match['distance']:.4f})"
                print((match["identity"] or "nobody known") + nearest)
        case ["forget", name]:
            print(call(person(name), method="DELETE"))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Refused, OSError) as error:
        sys.exit(f"error: {error}")
