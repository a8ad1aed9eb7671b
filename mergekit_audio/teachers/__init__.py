"""Teachers, one a module: what masked prediction predicts, with its head and its loss."""
