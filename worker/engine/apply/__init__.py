"""Parts of the axis `apply`, one to a file. Importing the package registers them."""

from worker.engine.registry import load_folder

load_folder(__name__, list(__path__))
