"""The proxy beside nginx, HAProxy, Envoy and a naive one, in one run: `make bench`. See README.md in this folder."""
