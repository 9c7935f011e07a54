"""Jobs: submit, follow, cancel, fetch the result."""
