"""The service as its callers meet it."""

from __future__ import annotations

import base64
import json
import re
import threading
import time

import cv2
import httpx
import numpy as np
import pytest

from spherecv.config import PipelineConfig
from spherecv.detect import FaceDetector
from spherecv.embed import FaceEmbedder
from spherecv.errors import InvalidArgumentError, MissingThresholdError
from spherecv.gallery import FaceGallery
from spherecv.gallery.sqlite import SqliteStore
from spherecv.pipeline import FacePipeline
from spherecv.serve import FaceService
from spherecv.serve import answers as shapes
from spherecv.serve.pool import open_pool
from spherecv.thresholds import CalibratedThreshold, Calibration
from spherecv.verify import FaceVerifier


def problem(response: httpx.Response, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = shapes.ProblemAnswer.model_validate(response.json())
    assert (document.status, document.type) == (status, f"urn:spherecv:problem:{kind}")
    assert len(document.detail.splitlines()) == 1
    return document.detail


def small(path) -> bytes:
    """A photo made small, so that nobody waits for its decoding."""
    image = cv2.imread(str(path))
    scale = 480 / max(image.shape)
    smaller = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def photos(data_dir):
    return {number: small(data_dir / "deepface-pairs" / f"img{number}.jpg") for number in (1, 2, 16, 17)}


def test_answers_are_those_of_the_library(real, net, photos) -> None:
    embedder = FaceEmbedder(net)
    verifier = FaceVerifier(embedder, detector=FaceDetector(), threshold=0.6)
    for a, b in ((1, 2), (1, 16)):
        expected = verifier.verify(photos[a], photos[b])
        sent = real.post("/v1/verify", files={"img1": photos[a], "img2": photos[b]}, data={"crops": "true"})
        answer = shapes.VerifyAnswer.model_validate(sent.json(), strict=True)
        assert answer.verified is expected.verified
        assert answer.distance == pytest.approx(expected.distance, abs=1e-4)
        assert answer.facial_areas.img1.box == pytest.approx(expected.faces[0].face.box.tolist(), abs=0.02)
        crop = cv2.imdecode(np.frombuffer(base64.b64decode(answer.crops.img2.png), np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_allclose(crop, expected.faces[1].crop, atol=2)
        assert np.abs(np.array(answer.crops.img1.landmarks) - embedder.recipe.template_points).max() < 8
        in_json = real.post("/v1/verify", json={"img1": base64_of(photos[a]), "img2": base64_of(photos[b])}).json()
        assert in_json["distance"] == answer.distance
        assert "crops" not in in_json
    embedded = shapes.EmbedAnswer.model_validate(real.post("/v1/embed", files={"img": photos[1]}).json(), strict=True)
    (face,) = FaceVerifier(embedder).pipeline.faces(photos[1], face="largest")
    np.testing.assert_allclose(embedded.faces[0].embedding, face.embedding, atol=1e-4)
    sent = real.post("/v1/detect", files={"img": photos[17]})
    detected = shapes.DetectAnswer.model_validate(sent.json(), strict=True)
    found = FaceDetector().detect(photos[17])
    assert len(detected.faces) == len(found)
    assert detected.faces[0].landmarks[0] == pytest.approx(found[0].landmarks[0].tolist(), abs=0.02)


def test_several_images_a_side_are_a_template_as_in_the_library(real, net, photos, data_dir) -> None:
    verifier = FaceVerifier(FaceEmbedder(net), detector=FaceDetector(), threshold=0.6)
    expected = verifier.verify([photos[1], photos[2]], photos[16])
    files = [("img1", photos[1]), ("img1", photos[2]), ("img2", photos[16])]
    sent = real.post("/v1/verify", files=files, data={"crops": "true"})
    answer = shapes.VerifyAnswer.model_validate(sent.json(), strict=True)
    assert answer.distance == pytest.approx(expected.distance, abs=1e-4)
    assert answer.distance != pytest.approx(verifier.verify(photos[1], photos[16]).distance, abs=1e-3)
    assert answer.faces_used.model_dump() == {"img1": 2, "img2": 1}
    assert answer.probability is None
    assert answer.facial_areas.img1.box == pytest.approx(expected.faces[0].face.box.tolist(), abs=0.02)
    body = {"img1": [base64_of(photos[1]), base64_of(photos[2])], "img2": base64_of(photos[16])}
    in_json = real.post("/v1/verify", json=body).json()
    assert in_json["distance"] == answer.distance
    grey = cv2.imencode(".png", np.full((90, 90, 3), 90, np.uint8))[1].tobytes()
    sent = real.post("/v1/verify", files=[*files, ("img2", grey)])
    assert "no face found in img2 2" in problem(sent, 422, "no-face")
    assert "send a sharper image" in problem(sent, 422, "no-face")
    half = real.post("/v1/detect", files={"img": photos[1][: len(photos[1]) // 2]})
    for refused, kind in ((sent, "no-face"), (half, "bad-image")):  # no advice that a request cannot follow
        assert not re.search("--|=|SPHERECV_", problem(refused, 422, kind)), refused.text
    for images in ([], [base64_of(grey)] * 17):
        assert "img1: 1 to 16 images" in problem(real.post("/v1/verify", json={**body, "img1": images}), 422, "invalid")


def test_people_come_are_named_renamed_and_forgotten(real, photos) -> None:
    assert real.get("/v1/gallery").json()["people"] == []
    form = {"identity": "Ann/Zoë", "metadata": '{"team": "blue"}'}
    enrolled = real.post("/v1/gallery", files=[("img", photos[1]), ("img", photos[2])], data=form)
    assert enrolled.status_code == 201
    assert shapes.EnrolAnswer.model_validate(enrolled.json(), strict=True).faces == 2
    refused = {"identity": "Ann/Zoë", "if_exists": "raise"}
    problem(real.post("/v1/gallery", files={"img": photos[1]}, data=refused), 409, "exists")
    added = real.post("/v1/gallery", files={"img": photos[1]}, data={"identity": "Ann/Zoë"})
    assert (added.status_code, added.json()["unchanged"]) == (201, 1)
    poor = {"identity": "Cleo", "min_quality": "1"}
    assert "at least 1 was asked for" in problem(
        real.post("/v1/gallery", files={"img": photos[1]}, data=poor), 422, "no-face"
    )
    in_json = {"identity": "Mark", "img": base64_of(photos[16])}
    assert real.post("/v1/gallery", json=in_json).status_code == 201
    for photo, name in ((1, "Ann/Zoë"), (17, "Mark")):
        sent = real.post("/v1/identify", files={"img": photos[photo]}, data={"face": "largest", "k": "1"})
        (match,) = shapes.IdentifyAnswer.model_validate(sent.json(), strict=True).matches
        assert (match.identity, len(match.candidates)) == (name, 1)
    assert real.post("/v1/identify", files={"img": photos[1]}).json()["matches"][0]["candidates"][0]["metadata"] == {
        "team": "blue"
    }
    page = shapes.PeopleAnswer.model_validate(real.get("/v1/gallery?limit=1").json(), strict=True)
    assert ([one.identity for one in page.people], page.next, page.identities) == (["Ann/Zoë"], "Ann/Zoë", 2)
    rest = real.get("/v1/gallery", params={"after": page.next}).json()
    assert ([one["identity"] for one in rest["people"]], rest["next"]) == (["Mark"], None)
    place = "/v1/gallery/Ann%2FZo%C3%AB"
    person = shapes.PersonAnswer.model_validate(real.get(place).json(), strict=True)
    assert [one.faces for one in person.images] == [1, 1]
    assert "embedding" not in real.get(place).text
    problem(real.patch(place, json={"identity": "Mark"}), 409, "exists")
    problem(real.patch(place, json={"identity": "Mark", "merge": "true"}), 422, "invalid")
    assert real.patch(place, json={"identity": "Ann"}).json() == {"identity": "Ann"}
    gone = real.delete("/v1/gallery/Ann", params={"image": person.images[0].id}).json()
    assert gone == {"faces": 1, "images": 1, "erased": True}
    problem(real.delete("/v1/gallery/Ann", params={"image": person.images[0].id}), 404, "unknown-identity")
    assert real.patch("/v1/gallery/Ann", json={"identity": "Mark", "merge": True}).status_code == 200
    assert real.delete("/v1/gallery/Mark").json()["faces"] == 2
    for method in ("get", "delete"):
        detail = problem(getattr(real, method)("/v1/gallery/Mark"), 404, "unknown-identity")
        assert ".db" not in detail
    assert real.get("/v1/gallery").json()["faces"] == 0


def test_every_broken_upload_gets_one_clear_sentence(client, tools) -> None:
    large = tools.picture(size=(6000, 5000))
    for data, status, kind, words in (
        (b"", 422, "bad-image", "img is empty"),
        (b"hello", 422, "bad-image", "img is not an image in JPEG, PNG or WebP"),
        (tools.red[:60], 422, "bad-image", "img is a broken image"),
        (tools.red[:20], 422, "bad-image", "img is a broken PNG"),
        (large, 413, "too-large", "img is 6000x5000, larger than the limit of 25,000,000 pixels"),
    ):
        assert words in problem(client.post("/v1/embed", files={"img": data}), status, kind)
    assert "no face found in img (128x128)" in problem(
        client.post("/v1/embed", files={"img": tools.grey}), 422, "no-face"
    )
    assert client.post("/v1/detect", files={"img": tools.grey}).json()["faces"] == []
    headers = {"content-type": "application/json"}
    for content, given, status, kind in (
        (b"{", headers, 400, "bad-request"),
        (b'{"img": "/etc/passwd"}', headers, 422, "invalid"),
        (b'{"img": "http://127.0.0.1/x"}', headers, 422, "invalid"),
        (b"img=abc", {"content-type": "application/x-www-form-urlencoded"}, 415, "wrong-type"),
        (tools.red, {"content-type": "image/png"}, 415, "wrong-type"),
        (b"abc", {}, 415, "wrong-type"),
        (b"", headers, 400, "bad-request"),
        (b"abc", {"content-type": "multipart/form-data"}, 400, "bad-request"),
        (b"abc", {"content-type": "multipart/form-data; boundary=x"}, 400, "bad-request"),
        (b"--x\r\nabc", {"content-type": "multipart/form-data; boundary=x"}, 400, "bad-request"),
        (b"{}", {**headers, "content-encoding": "gzip"}, 415, "wrong-type"),
        (b"--x--", {"content-type": "multipart/form-data; boundary=x; charset=punycode"}, 415, "wrong-type"),
        (b"--x--", {"content-type": 'multipart/form-data; boundary=x; charset="UTF-8"'}, 422, "invalid"),
    ):
        problem(client.post("/v1/detect", content=content, headers=given), status, kind)
    too_many = [("img", tools.red)] * 3
    problem(client.post("/v1/detect", files=too_many), 400, "bad-request")
    problem(client.post("/v1/gallery", files=[("img", tools.red)] * 17, data={"identity": "A"}), 400, "bad-request")
    problem(client.get("/v1/nothing"), 404, "not-found")
    problem(client.put("/v1/detect"), 405, "wrong-method")
    problem(client.get("/v1/gallery?limit=0"), 422, "invalid")
    problem(client.get("/v1/gallery/%0a"), 422, "invalid")
    assert client.get("/healthz").json() == {"status": "ok"}


def test_a_failure_in_an_enrolment_stores_nothing(client, tools) -> None:
    pictures = [("img", tools.red), ("img", tools.grey)]
    sent = client.post("/v1/gallery", files=pictures, data={"identity": "Ann"})
    assert "no face found in img 2" in problem(sent, 422, "no-face")
    assert client.get("/v1/gallery").json()["identities"] == 0


def test_where_the_gallery_lies_is_not_told(tmp_path, staged, tools) -> None:
    folder = tmp_path / "secret" / "place"
    folder.mkdir(parents=True)
    (folder / "ann.png").write_bytes(tools.red)
    service = staged.make(folder / "people.db")
    with FaceGallery.open(folder / "people.db", model=staged.pool) as gallery:
        gallery.enrol("Ann", folder / "ann.png")
    with tools.serving(service) as client:
        texts = [
            client.post("/v1/identify", files={"img": tools.reddish}).text,
            client.get("/v1/gallery/Ann").text,
            client.get("/v1/gallery/Nobody").text,
            client.post("/v1/gallery", files={"img": tools.red}, data={"identity": "Ann"}).text,
            client.delete("/v1/gallery/Nobody").text,
        ]
    assert '"image":"ann.png"' in texts[0]
    assert not any("secret" in text for text in texts)


def test_without_a_gallery_the_rest_works(staged, tools) -> None:
    with tools.serving(staged.make()) as client:
        assert len(client.post("/v1/embed", files={"img": tools.red}).json()["faces"]) == 1
        assert "--gallery" in problem(client.post("/v1/identify", files={"img": tools.red}), 404, "no-gallery")
        problem(client.get("/v1/gallery"), 404, "no-gallery")
        problem(client.delete("/v1/gallery/Ann"), 404, "no-gallery")
        assert "spherecv_gallery" not in client.get("/metrics").text


def test_a_service_that_could_never_decide_is_refused_when_it_is_made(staged) -> None:
    pool = staged.make().pool
    with pytest.raises(MissingThresholdError, match="spherecv calibrate"):
        FaceService.open(pool)
    with pytest.raises(MissingThresholdError, match=r"known at a false accept rate of 0\.05"):
        FaceService.open(pool, far=0.05)
    with pytest.raises(InvalidArgumentError, match="made on the pool"):
        FaceService(pool, FaceVerifier(FacePipeline(pool.embedder, detector=pool.detector), threshold=0.2))


def test_rates_and_probabilities_come_from_the_calibration(net, tmp_path, photos, tools) -> None:
    from spherecv.zoo.probability import ProbabilityCurve

    pool = open_pool(PipelineConfig.of(net), workers=1)
    measured = {"measured_tar": 0.9, "tar_interval": (0.8, 0.95), "false_accepts": 1}
    rows = [
        CalibratedThreshold(chosen_for=f"FAR {far}", threshold=at, far=far, measured_far=far, far_interval=(0, far * 2),
                            **measured)
        for far, at in ((0.01, 0.7), (0.001, 0.2))
    ]  # fmt: skip
    curve = ProbabilityCurve(method="logistic", distances=(0.0, 1.2), log_ratios=(8.0, -8.0), ece={"logistic": 0.01})
    Calibration(
        model=net.name, model_key=net.key, recipe=net.recipe, metric="cosine", detector=pool.detector.name,
        face="largest", no_face="skip", dataset="a test", impostor_pairs_from="listed pairs", genuine=10,
        impostors=1000, identities=10, images=20, failed=0, thresholds=tuple(rows), probability=curve,
    ).save(tmp_path / "c.toml")  # fmt: skip
    service = FaceService.open(pool, tmp_path / "people.db", calibration=tmp_path / "c.toml", prior=0.25)
    with tools.serving(service) as client:
        told = client.get("/v1/models").json()
        assert [rate["far"] for rate in told["rates"]] == [0.01, 0.001]
        assert told["prior"] == 0.25
        assert (told["gallery"], told["read_only"]) == (True, False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SqliteStore, "writable", False)
            assert client.get("/v1/models").json()["read_only"]
        both = {"img1": photos[1], "img2": photos[2]}
        usual = client.post("/v1/verify", files=both).json()
        assert (usual["verified"], usual["threshold"], usual["far"]) == (True, 0.7, 0.01)
        assert usual["probability"] == pytest.approx(curve.probability(usual["distance"], 0.25))
        strict = client.post("/v1/verify", files=both, data={"far": "0.001"}).json()
        assert (strict["verified"], strict["threshold"]) == (False, 0.2)
        client.post("/v1/gallery", files={"img": photos[1]}, data={"identity": "Ann"})
        for far, name in (("0.01", "Ann"), ("0.001", None)):
            (match,) = client.post("/v1/identify", files={"img": photos[2]}, data={"far": far}).json()["matches"]
            assert (match["identity"], match["far"]) == (name, float(far))
        refused = problem(client.post("/v1/verify", files=both, data={"far": "0.5"}), 422, "no-threshold")
        assert "(known rates: 0.01, 0.001): ask for another far, or have the administrator measure one" in refused
        assert "threshold=" not in refused


def test_more_than_the_queue_holds_is_told_to_come_again(staged, tools) -> None:
    service = staged.make(queue=4, batch=1)
    (detector,) = staged.detectors
    detector.open.clear()
    with tools.serving(service) as client:
        answers: list[httpx.Response] = []
        asking = [
            threading.Thread(target=lambda: answers.append(client.post("/v1/detect", files={"img": tools.red})))
            for _ in range(4)
        ]
        for thread in asking:
            thread.start()
        waited = time.monotonic() + tools.patience
        while "spherecv_inside_requests 4.0" not in client.get("/metrics").text:
            assert time.monotonic() < waited
            time.sleep(0.01)
        refused = client.post("/v1/detect", files={"img": tools.red})
        assert "try again" in problem(refused, 429, "busy")
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200
        detector.open.set()
        for thread in asking:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 4
        assert client.post("/v1/detect", files={"img": tools.red}).status_code == 200


def test_bodies_together_are_bounded_too(staged, tools) -> None:
    large = tools.picture((220, 30, 40), size=(640, 640))
    most = len(large) + 500  # with the form around it
    service = staged.make(max_body=most, max_held=most)
    (detector,) = staged.detectors
    detector.open.clear()
    answers: list[httpx.Response] = []
    with tools.serving(service) as client:
        first = threading.Thread(target=lambda: answers.append(client.post("/v1/detect", files={"img": large})))
        first.start()
        waited = time.monotonic() + tools.patience
        while not detector.batches:
            assert time.monotonic() < waited
            time.sleep(0.01)
        problem(client.post("/v1/detect", files={"img": large}), 429, "busy")
        detector.open.set()
        first.join()
        assert answers[0].status_code == 200
        problem(client.post("/v1/detect", files={"img": b"abc"}), 422, "bad-image")
        assert "spherecv_held_bytes 0.0" in client.get("/metrics").text


def test_what_takes_too_long_is_given_up(staged, tools) -> None:
    service = staged.make(time_limit=0.2)
    (detector,) = staged.detectors
    detector.open.clear()
    with tools.serving(service) as client:
        late = client.post("/v1/detect", files={"img": tools.red})
        problem(late, 503, "overdue")
        assert int(late.headers["retry-after"]) >= 1
        detector.open.set()
        waited = time.monotonic() + tools.patience
        while client.post("/v1/detect", files={"img": tools.red}).status_code != 200:
            assert time.monotonic() < waited


def test_a_fault_is_a_500_that_tells_nothing(staged, tools, monkeypatch) -> None:
    service = staged.make()
    (detector,) = staged.detectors

    def fail(_image):
        raise RuntimeError("secret")

    monkeypatch.setattr(type(detector), "_faces", staticmethod(fail))
    with tools.serving(service) as client:
        sent = client.post("/v1/detect", files={"img": tools.red})
        assert "secret" not in problem(sent, 500, "internal")
        monkeypatch.undo()
        assert client.post("/v1/detect", files={"img": tools.red}).status_code == 200


def test_the_documentation_shows_every_address_with_examples(client) -> None:
    document = client.get("/openapi.json").json()
    paths = document["paths"]
    assert set(paths) == {
        "/v1/verify", "/v1/detect", "/v1/embed", "/v1/identify", "/v1/models", "/v1/gallery",
        "/v1/gallery/{identity}", "/healthz", "/metrics",
    }  # fmt: skip
    schemas = document["components"]["schemas"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation["description"], path
            if method in ("post", "patch"):
                content = operation["requestBody"]["content"]
                assert set(content) == {"application/json", "multipart/form-data"}
                assert content["application/json"]["examples"]
            if path.startswith("/v1/") and path != "/v1/models":
                good = next(answer for code, answer in operation["responses"].items() if code.startswith("2"))
                name = good["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                (example,) = schemas[name]["examples"]
                getattr(shapes, name).model_validate(example, strict=True)
                assert {"401", "429", "503"} <= set(operation["responses"])
    assert "<" not in json.dumps(schemas)
