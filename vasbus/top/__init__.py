"""`vasbus top`: a system live in a terminal."""
