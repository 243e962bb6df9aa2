"""What the proxy's bench loads the proxies with."""
