"""A container image with nothing but busybox, made here: there is no registry to fetch one from."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def write(path: Path, name: str, *entrypoint: str) -> None:
    """Writes the image into a file, in the format of `docker save`; `entrypoint` is what it runs."""
    layer = _archive({"bin/busybox": Path("/bin/busybox").read_bytes()})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    described = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": described, "RepoTags": [name], "Layers": ["layer.tar"]}]
    path.write_bytes(_archive({"layer.tar": layer, described: config, "manifest.json": json.dumps(manifest).encode()}))


def _archive(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writer:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            writer.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
