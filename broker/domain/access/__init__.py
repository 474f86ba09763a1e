"""The rules for callers: owners' names, token algorithms, rates of requests, and quotas."""
