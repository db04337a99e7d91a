"""The folders that tests read: this checkout, and the real text that may lie beside it."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
