"""Standard Webhooks: signed, delivered from the store's outbox, to checked addresses only."""
