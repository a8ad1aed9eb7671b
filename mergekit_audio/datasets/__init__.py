"""Corpora: one importer a source, and the synthesiser of the demo."""
