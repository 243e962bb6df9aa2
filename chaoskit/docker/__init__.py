"""What targets and probes share of Docker: the daemon, and which containers are meant."""
