"""The path of a request: middleware, the route class and its demands, parameters, bodies and responses."""
