"""Tasks: kinds, the catalogue of tasks, data sources, metrics. Importing this package loads neither torch nor data."""
