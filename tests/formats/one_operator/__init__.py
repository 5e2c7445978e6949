"""Random files of one builtin operator, as others may make them: shapes, options, scales, zero points, widths."""
