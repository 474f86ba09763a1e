"""The formats that S3 defines: signatures, POST policies, and the properties of objects."""
