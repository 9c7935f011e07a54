"""Alembic migrations. They only add; what they add, older releases ignore."""
