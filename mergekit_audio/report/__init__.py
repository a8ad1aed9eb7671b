"""Tables, figures, reports and model cards: from plain facts to files."""
