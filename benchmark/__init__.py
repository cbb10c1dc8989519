"""Benchmark: suite -> plan -> train -> evaluate -> store, executors, and the command line."""
