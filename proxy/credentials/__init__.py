"""What do we show the upstream? One file per kind of credential, and where secrets are read from."""
