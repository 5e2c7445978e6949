"""The arithmetic: the only room where rounding, saturation and multipliers live (docs/numerics.md)."""
