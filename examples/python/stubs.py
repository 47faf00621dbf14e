"""Makes Loadstar's Python stubs importable, generating them when they are not there yet."""

import atexit
import importlib.util
import pathlib
import shutil
import subprocess
import sys
import tempfile

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
# What a client of CoordinatorService needs.
FILES = [f"loadstar/v1/{name}.proto" for name in ("spec", "metrics", "run", "tuning", "coordinator_service")]


def generate(folder):
    """Writes the stubs into `folder` with Debian's protoc and gRPC plugin."""
    plugin = shutil.which("grpc_python_plugin")
    if shutil.which("protoc") is None or plugin is None:
        sys.exit("protoc or grpc_python_plugin is missing: apt-get install protobuf-compiler protobuf-compiler-grpc")
    subprocess.run(
        [
            "protoc",
            f"--proto_path={PROTO}",
            f"--python_out={folder}",
            f"--grpc_python_out={folder}",
            f"--plugin=protoc-gen-grpc_python={plugin}",
            *FILES,
        ],
        check=True,
        timeout=60,
        cwd=PROTO,
    )


def provide():
    """Uses stubs on PYTHONPATH when there are any, else generates them into a folder that lasts as long as the program."""
    if importlib.util.find_spec("loadstar") is not None:
        return
    folder = tempfile.mkdtemp(prefix="loadstar-stubs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    generate(folder)
    sys.path.insert(0, folder)
