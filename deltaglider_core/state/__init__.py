"""What is kept about objects and requests: intents, events, usage, uploads, leases.

Object data and object metadata live on the backends. Everything here is in one database, which
all processes share; nothing that matters is kept in one process alone.
"""
