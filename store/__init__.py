"""What service and worker share: rows of models, datasets and jobs, and the blobs they name.

There is no fake of it: SQLite in a temporary folder and `memory:///` blobs are the real thing and fast.
"""

from store.settings import StoreSettings
from store.store import Store, open_store

__all__ = ["Store", "StoreSettings", "open_store"]
