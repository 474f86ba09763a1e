"""The life of a media: the verbs of clients, the settlement of uploads, the video probe, and long polling."""
