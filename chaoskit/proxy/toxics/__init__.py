"""The toxics, by what they do to traffic."""
