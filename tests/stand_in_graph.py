"""The graph of a YAML file with tiny stand-ins for what can't be fetched everywhere."""

from pathlib import Path

from benchmarks.stand_ins.graph import with_stand_ins
from serve_app.config import ServeFile
from serve_app.stores import open_models
from tests.stand_ins import write_stand_ins


def on_stand_ins(file: ServeFile, folder: Path) -> ServeFile:
    """Return the file with every model that has a stand-in replaced by it, and install them.

    ``folder`` gets the stand-ins and a catalogue that names them; they go into the file's model
    cache.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw, names = with_stand_ins(file.raw, write_stand_ins(folder))
    changed = ServeFile(raw, file.path)
    models = open_models(changed.args.models)
    for name in names:
        models.pull(name)
    return changed
