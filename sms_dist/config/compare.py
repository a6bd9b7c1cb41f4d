"""Comparison of configurations: the keys that decide the result, their hash, differences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sms_dist.config import Config

# Extra measurements (data.corruptions) may be asked for when a run is finished.
_DATA = {
    "workers",
    "prefetch",
    "cache",
    "remote",
    "corruptions",
    "corruption_samples",
    "corrupt_candidates",
}
_ENGINE = {"silence_seconds", "hang_seconds"}  # when to give up, not what comes out
# Without divergence they have no effect. A run that stopped may go on with another policy; the
# candidates that were left out or retried are recorded beside the result.
_CANDIDATES = {"on_divergence", "retries", "far"}
_WITHOUT_EFFECT: Any = {
    "name": True,
    "records": True,
    "data": _DATA,
    "engine": _ENGINE,
    "candidates": _CANDIDATES,
}


def fingerprint(config: Config) -> str:
    """Return a hash of all keys that decide the result, not of places and speeds."""
    return hashlib.sha256(json.dumps(_deciding(config), sort_keys=True).encode()).hexdigest()


def differences(old: Config, new: Config) -> list[str]:
    """Return `key.path: old -> new` for every key that decides the result and differs."""
    return _changes(_deciding(old), _deciding(new))


def all_differences(old: Config, new: Config) -> list[str]:
    """Return `key.path: old -> new` for every key that differs."""
    return _changes(
        old.model_dump(mode="json", by_alias=True), new.model_dump(mode="json", by_alias=True)
    )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested sections as one mapping from key.path to value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, after = flatten(old), flatten(new)
    keys = sorted(before.keys() | after.keys())
    changed = [key for key in keys if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed]


def _deciding(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", by_alias=True, exclude=_WITHOUT_EFFECT)
