"""The contract as pydantic models: what travels between client, API, store and worker.

Nothing here but pydantic and the standard library.
"""
