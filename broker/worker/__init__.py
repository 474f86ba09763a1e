"""What the broker does by itself, without a client."""
