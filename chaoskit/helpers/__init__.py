"""Programs of our own that burn or hold something while a fault is in. They import nothing of
chaoskit's and nothing heavy: they start in a few milliseconds and stay small."""
