"""The pure core: states, rules, keys, policies and signatures. No I/O, no framework, no clock."""
