"""Model families, one a module: how a checkpoint becomes an encoder."""
