"""Jobs: submission, claims with leases and fencing tokens, events, ends, and the sweep that repairs."""

from store.jobs.job_store import JobStore

__all__ = ["JobStore"]
