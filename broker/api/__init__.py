"""The HTTP interface: routes, schemas, authentication, problems."""
