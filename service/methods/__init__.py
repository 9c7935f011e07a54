"""The method catalogue over HTTP."""
