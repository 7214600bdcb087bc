"""Which store the settings name."""

from embedctl.artifacts.layout import Layout
from embedctl.settings import Secrets, StoreSettings
from embedctl.store.protocol import Store


def open_store(settings: StoreSettings, layout: Layout, secrets: Secrets) -> Store:
    """The store that the settings name; nothing is asked of it yet."""
    if settings.kind == "lancedb":
        from embedctl.store.lance import LanceStore

        return LanceStore(layout.store, settings, name_of(settings))
    if settings.kind == "pgvector":
        from embedctl.store.pgvector import PgvectorStore

        return PgvectorStore(settings, secrets.database_url)
    from embedctl.store.pinecone import PineconeStore

    return PineconeStore(settings, secrets.pinecone_api_key)


def name_of(settings: StoreSettings) -> str:
    """What the settings call the collection, in the ledger; known without opening the store."""
    if settings.kind == "lancedb":
        # Without the folder: the ledger lies beside it, and the workspace may be moved.
        return f"lancedb:{settings.collection}"
    if settings.kind == "pgvector":
        # Without the server: its URL is a secret. The table knows its digests itself.
        return "pgvector:" + ".".join(filter(None, [settings.namespace, settings.collection]))
    return f"pinecone:{settings.host or settings.collection}/{settings.namespace}"
