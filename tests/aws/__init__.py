"""The S3 client, its addresses and its faults."""
