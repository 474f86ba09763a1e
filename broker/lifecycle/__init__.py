"""The life of a media: the verbs of clients, the settlement of what arrived, the probe, and waiting for news."""
