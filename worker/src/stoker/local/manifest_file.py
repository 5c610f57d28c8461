"""Manifest files: the TaskQueues that `stoker up` reads. The operator gets its from the API server."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from stoker.errors import Invalid
from stoker.manifest.task_queue import GROUP, KIND, VERSION, TaskQueue, parse


def load(path: Path) -> list[TaskQueue]:
    """All TaskQueues of a YAML file; documents of other kinds are skipped.

    Raises Invalid if the file cannot be read, is not YAML, or has no TaskQueue.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not text, or a date such as 2026-13-45
        raise Invalid(f"{path} is not YAML: {error}") from error
    queues = [parse(document) for document in documents if isinstance(document, Mapping) and document.get("kind") == KIND]
    if not queues:
        raise Invalid(f"{path} contains no {KIND}: expected apiVersion {GROUP}/{VERSION}, kind {KIND}")
    return queues
