"""The Deployments of k8s/samples as files: `.venv/bin/python tests/operator/golden.py` writes them anew."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FILES = Path(__file__).parent / "golden"


def rendered() -> Iterator[tuple[Path, str]]:
    """The file of each sample, and what the operator makes of the sample now."""
    from msgspec.structs import replace

    from stoker.local.manifest_file import load
    from stoker_operator.reconcile.resources import Connection, deployment
    from stoker_operator.state.ref import Owner, Ref

    for sample in sorted((ROOT / "k8s" / "samples").glob("*.yaml")):
        for queue in load(sample):
            queue = replace(queue, namespace="default")
            owner = Owner(Ref(queue.namespace, queue.name), "uid-1")
            manifest = deployment(
                queue, owner, Connection("redis://redis:6379/0", "0123456789abcdef"), installation="stoker/operator"
            )
            yield FILES / f"{sample.stem}-{queue.name}.yaml", yaml.safe_dump(manifest, width=120)


def fingerprint() -> str:
    """Of all the files together."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(FILES.glob("*.yaml")))).hexdigest()[:8]


if __name__ == "__main__":
    for path in FILES.glob("*.yaml"):
        path.unlink()
    for path, text in rendered():
        path.write_text(text)
    sys.stdout.write(f"CHANGELOG.md needs: rendering {fingerprint()}\n")
