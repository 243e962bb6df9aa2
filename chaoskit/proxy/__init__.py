"""A fault proxy for TCP and UDP that speaks Toxiproxy's interface and lets go by itself."""
