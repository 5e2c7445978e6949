"""The outside world: readers and writers, one operator table a format; they never compute numerics."""
