"""The rows in front of other proxies: their configuration, and a judge that knows only what every proxy must do."""
