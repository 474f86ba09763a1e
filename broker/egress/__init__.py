"""Requests to the operator's own servers, webhooks and the issue hook: signed, and to allowed addresses only."""
