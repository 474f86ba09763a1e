"""Operations of the store that need nothing of others in their batch."""

import sqlalchemy as sa

from broker.store.batching.batcher import Operation, T


class StandaloneOperation(Operation[T]):
    """One operation that runs by itself, in a transaction of the store."""

    __slots__ = ()

    def run(self, connection: sa.Connection) -> T:
        """Run the operation and return its result."""
        raise NotImplementedError
