"""Connections to both databases: their URLs, engines, deadlines, and what a pooler between takes away."""
