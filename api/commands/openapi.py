"""`python -m api openapi`: the OpenAPI document as a file, as it is committed in docs/openapi.json."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from api.app import create_app
from jobs.settings import Settings


def document() -> str:
    """The document of a service with the default settings: indented JSON with a final newline."""
    with tempfile.TemporaryDirectory() as directory:
        app = create_app(Settings(blobs_url=Path(directory).as_uri()))
        app.state.service.close()
        return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the document; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m api openapi", description="Writes the OpenAPI document.")
    parser.add_argument("file", nargs="?", type=Path, help="where to (default: standard output)")
    options = parser.parse_args(arguments)
    if options.file is None:
        sys.stdout.write(document())
    else:
        options.file.write_text(document(), encoding="utf-8")
    return 0
