"""Everything that the proxy needs, tried once: what is wrong, and what to do about it."""
