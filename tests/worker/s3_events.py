"""S3's own event messages, as a bucket sends them to a queue."""

from typing import Any


def record(event: str = "ObjectCreated:Post", key: str = "staging/a3/x+y%2B%C3%BC.mp4") -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": event,
        "s3": {"bucket": {"name": "videos"}, "object": {"key": key, "size": 10, "sequencer": "0055AED6DCD90281E5"}},
    }


def direct(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records)}
