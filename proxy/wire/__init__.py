"""How do bytes move? The only package that reads and writes the data path's sockets."""
