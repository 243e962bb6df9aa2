"""What the proxy's bench is made of: the peers, the load, the service behind them, the measures."""
