"""What the whole of chaoskit speaks about: frozen values without any input or output."""
