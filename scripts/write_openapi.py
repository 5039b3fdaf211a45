"""Write docs/openapi.json: the HTTP API of config/serve.yaml, compared by a test."""

import json
from pathlib import Path

from serve_app.app import build_graph
from serve_app.config import load_file
from serve_app.http.ingress import build_http_app, job_routes
from serve_app.pipeline import Pipeline
from serve_app.settings import config_folder
from serve_app.stores import open_stores


def main() -> None:
    """Build the app without hosts and write its description."""
    file = load_file(config_folder() / "serve.yaml")
    stores = open_stores(file.args)
    graph = build_graph(file.args, stores.models)
    limits = file.args.limits
    app = build_http_app(
        graph,
        Pipeline(graph, {}, limits),
        stores,
        limits,
        job_routes(graph, file.args, stores, None),
    )
    text = json.dumps(app.openapi(), indent=1, ensure_ascii=False)
    Path("docs/openapi.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
