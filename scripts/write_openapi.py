"""Write docs/openapi.json: the HTTP API of config/serve.yaml, compared by a test."""

import json
from pathlib import Path

from serve_app.app import build_graph, open_store
from serve_app.config import load_file
from serve_app.http.ingress import build_http_app
from serve_app.pipeline import Pipeline
from serve_app.settings import config_folder


def main() -> None:
    """Build the app without hosts and write its description."""
    file = load_file(config_folder() / "serve.yaml")
    store = open_store(file.args.models)
    graph = build_graph(file.args, store)
    app = build_http_app(graph, Pipeline(graph, {}, file.args.limits), store, file.args.limits)
    text = json.dumps(app.openapi(), indent=1, ensure_ascii=False)
    Path("docs/openapi.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
