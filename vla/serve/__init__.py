"""A policy behind a websocket: openpi's protocol, concurrent clients in one forward."""
