"""The shipped graph over HTTP, without a cluster: what one missing or damaged model does."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from deployments.runtime.models import ModelStore
from deployments.runtime.types import Media
from serve_app.app import build_graph, node_settings
from serve_app.config import load_file
from serve_app.host import Host
from serve_app.http.guard import RequestGuard
from serve_app.http.ingress import build_http_app, job_routes
from serve_app.pipeline import Pipeline
from serve_app.settings import config_folder
from serve_app.stores import Stores, open_stores

Photo = Callable[[str], Media]


def make_client(store: ModelStore) -> TestClient:
    """Serve config/serve.yaml in this process, with models from ``store``."""
    file = load_file(config_folder() / "serve.yaml")
    limits = file.args.limits
    graph = build_graph(file.args, store)
    opened = open_stores(file.args)
    stores = Stores(store, opened.outputs, opened.files)
    hosts = {
        host: Host([(graph[name], node_settings(graph[name], file.args, stores)) for name in names])
        for host, names in graph.hosts.items()
    }
    jobs = job_routes(graph, file.args, stores, None)  # nobody calls them here
    app = build_http_app(graph, Pipeline(graph, hosts, limits), stores, limits, jobs)
    app.add_middleware(RequestGuard, limits=limits)
    return TestClient(app)


def copy_of(store: ModelStore, folder: Path) -> ModelStore:
    """Copy the installed default models into a cache of their own, switched offline."""
    shutil.copytree(store.path("mobilefacenet").parents[2], folder, dirs_exist_ok=True)
    return ModelStore(store.catalogue, folder, offline=True)


def test_model_that_is_not_installed(store: ModelStore, photo: Photo, tmp_path: Path) -> None:
    """Its capability answers 503 with the command that installs it; the others work."""
    partial = copy_of(store, tmp_path / "models")
    shutil.rmtree(partial.path("mobilefacenet").parent)
    data = photo("obama").data
    with make_client(partial) as client:
        problem = client.post("/v1/face_embedding", content=data)
        assert problem.status_code == 503
        assert problem.json()["type"] == "urn:cl-ml-serve:problem:model-not-installed"
        assert "cl-serve models pull mobilefacenet" in problem.json()["detail"]
        assert len(client.post("/v1/face_detection", content=data).json()["faces"]) == 1
        both = client.post("/v1/analyze?outputs=face_alignment,face_embedding", content=data)
        assert list(both.json()["outputs"]) == ["face_alignment"]
        assert list(both.json()["problems"]) == ["face_embedding"]
        assert client.get("/readyz").status_code == 503


def test_model_with_another_hash(store: ModelStore, photo: Photo, tmp_path: Path) -> None:
    """A file that is not the recorded one is never loaded; the answer says what to do."""
    tampered = copy_of(store, tmp_path / "models")
    path = tampered.path("mobilefacenet")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with make_client(tampered) as client:
        problem = client.post("/v1/face_embedding", content=photo("obama").data)
        assert problem.status_code == 503
        assert "cl-serve models pull mobilefacenet" in problem.json()["detail"]
        assert client.post("/v1/face_detection", content=photo("obama").data).is_success


def test_result_is_the_same_twice(store: ModelStore, photo: Photo) -> None:
    """The same photo gives the same bytes."""
    with make_client(store) as client:
        answers = [client.post("/v1/face_embedding", content=photo("biden").data) for _ in "ab"]
        assert answers[0].content == answers[1].content
        assert answers[0].json()["embedding_dim"] == 192


def test_openapi_is_the_committed_one(store: ModelStore) -> None:
    """docs/openapi.json is what the server offers; `make openapi` writes it anew."""
    with make_client(store) as client:
        offered = client.get("/openapi.json").json()
    committed = json.loads(Path("docs/openapi.json").read_text(encoding="utf-8"))
    assert committed == offered
    references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(offered)))
    assert references <= set(offered["components"]["schemas"])
    assert {"Face", "Box", "EmbeddedFace"} <= references


@pytest.mark.filterwarnings("ignore:open_binary is deprecated")  # in fastapi-swagger
def test_docs_need_no_network(store: ModelStore) -> None:
    """The API shows itself, and everything that the page loads comes from this server."""
    with make_client(store) as client:
        page = client.get("/docs")
        assert page.status_code == 200
        loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
        assert len(loaded) >= 2
        for url in loaded:
            assert url.startswith(str(client.base_url))
            assert client.get(url).status_code == 200
