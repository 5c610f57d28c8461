"""Programs that measure something else than a peer's worker; run in Stoker's environment, they print JSON."""
