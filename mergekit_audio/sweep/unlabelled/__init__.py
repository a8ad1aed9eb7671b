"""λ that need no labels: by the pre-training loss, or by how corpora sound."""
