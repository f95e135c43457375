"""Alembic's environment: runs the revisions in the transaction of the caller's connection."""

from alembic import context

from deltaglider_core.state.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # One transaction for all, which the caller began and ends: a failure leaves the old schema.
    transactional_ddl=True,
    transaction_per_migration=False,
    # SQLite cannot alter most of a table; Alembic then copies it.
    render_as_batch=True,
)
context.run_migrations()
