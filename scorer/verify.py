"""Is a results directory what scoring wrote?"""

from __future__ import annotations

import json
from pathlib import Path

from iconicity.indexer.errors import IconicityError
from iconicity.indexer.spec import file_sha256
from iconicity.indexer.store.manifest import digest
from iconicity.scorer.results import require_results


def verify_results(directory: Path) -> list[str]:
    """Problems found, one line each: the stored maxima against their digest, derived files against their meta files.

    Raises :class:`InputError` when the directory holds no results.
    """
    try:
        results = require_results(directory)
        for _ in results.batches():
            pass
    except IconicityError as e:
        if not list(directory.glob("scores_*.parquet")):
            raise
        return [str(e)]
    problems = []
    for path in sorted(directory.glob("results_*.meta.json")):
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            if meta["digest"] != digest(meta):
                raise ValueError("it does not match its own digest")
            csv = Path(meta["csv"]["path"])
            csv = csv if csv.is_absolute() else directory / csv
            if file_sha256(csv) != meta["csv"]["sha256"]:
                problems.append(f"{csv}: bytes differ from what was written; run the same 'iconicity score' again")
        except (OSError, ValueError, KeyError, TypeError) as e:
            problems.append(f"{path}: {e}; run the same 'iconicity score' again")
    return problems
